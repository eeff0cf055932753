import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createKeepalive } from "./keepalive.ts";

/** A connection on a fake clock, to a peer that the test speaks for. */
function start(t: TestContext, { timeMs = 60_000, withoutCalls = false } = {}) {
  let now = 0;
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  t.mock.method(performance, "now", () => now);
  const link = { calls: 1, bytes: 0, isDead: false, changes: 0 };
  const pings: (() => void)[] = [];
  const keepalive = createKeepalive({
    timeMs,
    timeoutMs: 20_000,
    withoutCalls,
    hasCalls: () => link.calls > 0,
    bytesRead: () => link.bytes,
    ping: (onAnswer) => pings.push(onAnswer),
    onChange: () => link.changes++,
    onDead: () => {
      link.isDead = true;
    },
  });
  function tick(ms: number): void {
    now += ms;
    t.mock.timers.tick(ms);
  }
  return { keepalive, link, pings, tick };
}

test("a peer that has been silent for as long as it may is asked, and is gone when it does not answer", (t) => {
  const { keepalive, link, pings, tick } = start(t);
  tick(60_000);
  assert.equal(pings.length, 1);
  assert.equal(keepalive.isResponsive(), false);
  tick(19_999);
  assert.equal(link.isDead, false);
  tick(1);
  assert.equal(link.isDead, true);
});

test("an answer makes it responsive again", (t) => {
  const { keepalive, link, pings, tick } = start(t);
  tick(60_000);
  pings[0]!();
  assert.equal(keepalive.isResponsive(), true);
  assert.equal(link.changes, 2);
  tick(30_000);
  assert.equal(link.isDead, false);
});

test("a peer that sends is not asked, nor is one without calls", (t) => {
  const { link, pings, tick } = start(t);
  for (let i = 0; i < 5; i++) {
    link.bytes += 10;
    tick(60_000);
  }
  link.calls = 0;
  tick(120_000);
  assert.equal(pings.length, 0);
});

test("without_calls asks over idle connections too", (t) => {
  const { link, pings, tick } = start(t, { withoutCalls: true });
  link.calls = 0;
  tick(60_000);
  assert.equal(pings.length, 1);
});

test("whatever is read in time counts as a sign of life, though the answer itself is late", (t) => {
  const { keepalive, link, tick } = start(t);
  tick(60_000);
  link.bytes += 10;
  tick(20_000);
  assert.equal(link.isDead, false);
  assert.equal(keepalive.isResponsive(), true);
});

test("overdue answers make it ask at once, but not more than once in ten seconds", (t) => {
  const { keepalive, link, pings, tick } = start(t, { timeMs: 0 });
  keepalive.check();
  keepalive.check();
  assert.equal(pings.length, 1);
  pings[0]!();
  tick(9_999);
  keepalive.check();
  assert.equal(pings.length, 1);
  tick(1);
  keepalive.check();
  assert.equal(pings.length, 2);
  assert.equal(link.isDead, false);
});

test("a peer that has sent something since it was last asked is asked again after a second", (t) => {
  const { keepalive, link, pings, tick } = start(t, { timeMs: 0 });
  keepalive.check();
  link.bytes += 17;
  pings[0]!();
  link.bytes += 100;
  tick(999);
  keepalive.check();
  assert.equal(pings.length, 1);
  tick(1);
  keepalive.check();
  assert.equal(pings.length, 2);
  // Its answer alone is nothing that it has sent.
  link.bytes += 17;
  pings[1]!();
  tick(9_999);
  keepalive.check();
  assert.equal(pings.length, 2);
});
