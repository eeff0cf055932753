import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createLogger } from "#shared/logging";
import { endpointAt } from "../addresses/endpoint.ts";
import { createRecorder } from "../test-support/recorder.ts";
import { createFollowingResolver } from "./following-resolver.ts";
import type { Found } from "./source.ts";

const logger = createLogger({ name: "test", config: { level: "silent", format: "json" } });

interface Look {
  readonly at: number;
  readonly found: Found;
  readonly signal: AbortSignal;
  end(): void;
  fail(message: string): void;
}

/** A resolver of a source whose looks the test answers. */
function resolverForTest(t: TestContext, pauseMs = 0) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const looks: Look[] = [];
  const told = createRecorder();
  let now = 0;
  const resolver = createFollowingResolver({
    name: "test:///x",
    source: {
      pauseMs,
      follow(found, signal) {
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        const fail = (message: string) => reject(new Error(message));
        looks.push({ at: now, found, signal, end: resolve, fail });
        signal.addEventListener("abort", () => reject(signal.reason));
        return promise;
      },
    },
    emptyGraceMs: 1_000,
    minRefreshMs: 5_000,
    logger,
    random: () => 0.5,
    now: () => now,
  });
  t.after(() => resolver.stop());
  return {
    resolver,
    looks,
    told,
    start: () => resolver.start(told),
    async tick(ms: number) {
      await settle();
      for (let passed = 0; passed < ms; passed += 10) {
        now += 10;
        t.mock.timers.tick(10);
        await settle();
      }
    },
  };
}

/** Lets what has been resolved be followed up. */
async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

test("failures are told and tried again after 0.5 s, 0.8 s … 30 s at most", async (t) => {
  const { looks, told, start, tick } = resolverForTest(t);
  start();
  for (let i = 0; i < 14; i++) {
    looks.at(-1)?.fail(`failure ${i}`);
    await settle();
    const { length } = looks;
    while (looks.length === length) await tick(10);
  }
  const delays = looks.slice(1).map(({ at }, i) => at - (looks[i]?.at ?? 0));
  assert.deepEqual(delays.slice(0, 3), [500, 800, 1_280]);
  assert.equal(delays.at(-1), 30_000);
  assert.equal(told.errors.length, 14);
  assert.equal(told.errors[0]?.message, "failure 0");
});

test("after a registry has served for a while, the first delay is short again", async (t) => {
  const { looks, start, tick } = resolverForTest(t);
  start();
  for (const last of [0, 1, 2]) {
    looks[last]?.fail("down");
    await tick(2_000);
  }
  looks[3]?.found([endpointAt("a:1")]);
  await tick(20_000);
  looks[3]?.fail("down");
  await tick(490);
  assert.equal(looks.length, 4);
  await tick(10);
  assert.equal(looks.length, 5);
});

test("a registry that flaps is left alone for longer and longer", async (t) => {
  const { looks, start, tick } = resolverForTest(t);
  start();
  looks[0]?.found([endpointAt("a:1")]);
  looks[0]?.fail("lost");
  await tick(500);
  looks[1]?.found([endpointAt("a:1")]);
  looks[1]?.fail("lost");
  await tick(790);
  assert.equal(looks.length, 2);
  await tick(10);
  assert.equal(looks.length, 3);
});

test("a look that ends well is followed by another after the source's pause", async (t) => {
  const { looks, start, tick } = resolverForTest(t, 30_000);
  start();
  looks[0]?.found([endpointAt("a:1")]);
  looks[0]?.end();
  await tick(29_990);
  assert.equal(looks.length, 1);
  await tick(10);
  assert.equal(looks.length, 2);
});

test("looks that end at once do not follow each other in a hurry", async (t) => {
  const { looks, start, tick } = resolverForTest(t);
  start();
  looks[0]?.end();
  await tick(990);
  assert.equal(looks.length, 1);
  await tick(10);
  assert.equal(looks.length, 2);
});

test("a refresh ends the pause, no sooner than min_refresh after the last look, and many are one", async (t) => {
  const { resolver, looks, start, tick } = resolverForTest(t, 30_000);
  start();
  looks[0]?.found([endpointAt("a:1")]);
  looks[0]?.end();
  await tick(1_000);
  for (let i = 0; i < 5; i++) resolver.refresh();
  await tick(3_990);
  assert.equal(looks.length, 1);
  await tick(10);
  assert.equal(looks.length, 2);
  looks[1]?.end();
  await tick(6_000);
  assert.equal(looks.length, 2);
  resolver.refresh();
  await tick(10);
  assert.equal(looks.length, 3);
});

test("a refresh begins a watch anew, and is no failure", async (t) => {
  const { resolver, looks, told, start, tick } = resolverForTest(t);
  start();
  looks[0]?.found([endpointAt("a:1")]);
  await tick(10_000);
  resolver.refresh();
  await tick(10);
  assert.equal(looks[0]?.signal.aborted, true);
  assert.equal(looks.length, 2);
  looks[0]?.found([endpointAt("b:1")]);
  assert.equal(told.addresses(), "a:1");
  assert.deepEqual(told.errors, []);
});

test("a refresh lets a look that has no answer yet go on", async (t) => {
  const { resolver, looks, start, tick } = resolverForTest(t);
  start();
  resolver.refresh();
  await tick(10_000);
  assert.equal(looks.length, 1);
  assert.equal(looks[0]?.signal.aborted, false);
});

test("it starts once, and ends what is under way when it is stopped", async (t) => {
  const { resolver, looks, told, start, tick } = resolverForTest(t);
  resolver.refresh();
  start();
  start();
  assert.equal(looks.length, 1);
  resolver.stop();
  assert.equal(looks[0]?.signal.aborted, true);
  looks[0]?.found([endpointAt("a:1")]);
  start();
  await tick(60_000);
  assert.equal(looks.length, 1);
  assert.deepEqual(told.sets, []);
  assert.deepEqual(told.errors, []);
});
