import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "#shared/testing";
import { type BreakerConfig, breakerSection } from "../../config/breaker.ts";
import { chooser } from "../retry/test-support.ts";
import { type BreakerPass, type BreakerState, type BreakerVerdict, createBreaker } from "./breaker.ts";

const config: BreakerConfig = {
  ...breakerSection.parse({}),
  minCalls: 4,
  windowMs: 1_000,
  openMs: 100,
  maxOpenMs: 350,
};

function setup(initial = config) {
  let time = 5_000;
  const changes: BreakerState["state"][] = [];
  const breaker = createBreaker({ config: initial, now: () => time, onChange: ({ state }) => changes.push(state) });
  function call(verdict: BreakerVerdict): boolean {
    const pass = breaker.begin(initial);
    pass?.end(verdict);
    return pass !== undefined;
  }
  function calls(...verdicts: BreakerVerdict[]): void {
    for (const verdict of verdicts) call(verdict);
  }
  return {
    breaker,
    changes,
    call,
    calls,
    begin: (latest = initial) => breaker.begin(latest),
    pass(ms: number) {
      time += ms;
    },
    now: () => time,
  };
}

test("it opens when enough calls were made and enough of them failed", () => {
  const { breaker, calls, call } = setup();
  calls("failure", "failure", "success");
  assert.deepEqual(breaker.state(), { state: "closed", calls: 3, failures: 2 });
  calls("failure");
  assert.deepEqual(breaker.state(), { state: "open", calls: 4, failures: 3, retryAtMs: 5_100 });
  assert.equal(call("success"), false);
});

test("it stays closed below the ratio, and while there are few calls", () => {
  const { breaker, calls } = setup({ ...config, failureRatio: 0.6 });
  calls("success", "success", "failure", "failure");
  assert.equal(breaker.state().state, "closed");
  calls("failure");
  assert.equal(breaker.state().state, "open");
});

test("calls that are older than the window are forgotten", () => {
  const { breaker, calls, pass } = setup();
  calls("failure", "failure", "failure");
  pass(1_001);
  calls("failure");
  assert.deepEqual(breaker.state(), { state: "closed", calls: 1, failures: 1 });
  pass(1_000_000);
  assert.deepEqual(breaker.state(), { state: "closed", calls: 0, failures: 0 });
});

test("calls without a verdict do not count", () => {
  const { breaker, calls } = setup();
  calls(...Array<BreakerVerdict>(50).fill("none"), "failure", "failure", "failure");
  assert.deepEqual(breaker.state(), { state: "closed", calls: 3, failures: 3 });
});

function opened(initial = config) {
  const parts = setup(initial);
  parts.calls("failure", "failure", "failure", "failure");
  assert.equal(parts.breaker.state().state, "open");
  return parts;
}

test("after the open time one call at a time is let through; when it goes well the breaker closes", () => {
  const { breaker, begin, pass, changes } = opened();
  pass(99);
  assert.equal(begin(), undefined);
  pass(1);
  const probe = begin();
  assert.equal(probe?.isProbe, true);
  assert.equal(begin(), undefined);
  probe?.end("success");
  assert.deepEqual(breaker.state(), { state: "closed", calls: 0, failures: 0 });
  assert.equal(begin()?.isProbe, false);
  assert.deepEqual(changes, ["open", "half_open", "closed"]);
});

test("each probe that fails doubles the open time up to max_open; one that goes well resets it", () => {
  const { breaker, call, pass, now, calls } = opened();
  const waits: number[] = [];
  for (let i = 0; i < 4; i++) {
    const waitMs = breaker.state().retryAtMs! - now();
    waits.push(waitMs);
    pass(waitMs);
    call("failure");
  }
  assert.deepEqual(waits, [100, 200, 350, 350]);
  pass(350);
  call("success");
  calls("failure", "failure", "failure", "failure");
  assert.equal(breaker.state().retryAtMs, now() + 100);
});

test("when a probe ends without a verdict, the next call is the probe", () => {
  const { breaker, begin, call, pass } = opened();
  pass(100);
  for (let i = 0; i < 10; i++) assert.equal(call("none"), true);
  assert.equal(breaker.state().state, "half_open");
  const probe = begin();
  assert.equal(begin(), undefined);
  probe?.end("success");
  assert.equal(breaker.state().state, "closed");
});

test("a probe that never ends keeps others out only for the open time", () => {
  const { breaker, begin, pass } = opened();
  pass(100);
  begin();
  pass(99);
  assert.equal(begin(), undefined);
  pass(1);
  const next = begin();
  assert.equal(next?.isProbe, true);
  next?.end("success");
  assert.equal(breaker.state().state, "closed");
});

test("a probe whose verdict comes after the open time still decides, while no other has", () => {
  const { breaker, begin, pass, now } = opened();
  const begunAfter = (ms: number) => {
    pass(ms);
    return begin();
  };
  const [first, second, third] = [begunAfter(100), begunAfter(100), begunAfter(100)];
  pass(50);
  first?.end("none");
  assert.deepEqual([breaker.state().state, breaker.state().retryAtMs], ["half_open", now() + 50]);
  second?.end("failure");
  assert.deepEqual([breaker.state().state, breaker.state().retryAtMs], ["open", now() + 200]);
  third?.end("success");
  assert.equal(breaker.state().state, "open");
  const [slow, slower] = [begunAfter(200), begunAfter(100)];
  pass(99);
  slow?.end("success");
  slower?.end("failure");
  assert.equal(breaker.state().state, "closed");
});

test("for answers of any length the breaker closes with the first that comes after recovery", () => {
  for (let seed = 1; seed <= 200; seed++) {
    const { int } = chooser(seededRandom(seed));
    const { breaker, begin, pass, now } = opened();
    const note = `seed ${seed}`;
    let underWay: { readonly probe: BreakerPass; readonly endsAt: number; readonly verdict: BreakerVerdict }[] = [];
    const longestMs = int(1, 1_000);
    const wellAt = now() + int(0, 2_000);
    // Those that began while the peer was unwell may all have to end first, and open it for its longest time.
    const giveUpAt = wellAt + 2 * longestMs + config.maxOpenMs + 200;
    while (now() < wellAt || breaker.state().state !== "closed") {
      assert.ok(now() < giveUpAt, note);
      const probe = begin();
      if (probe !== undefined) {
        const verdict = now() < wellAt ? "failure" : "success";
        underWay.push({ probe, endsAt: now() + int(Math.ceil(longestMs / 2), longestMs), verdict });
      }
      pass(5);
      for (const { probe, verdict } of underWay.filter(({ endsAt }) => endsAt <= now())) probe.end(verdict);
      underWay = underWay.filter(({ endsAt }) => endsAt > now());
    }
  }
});

test("calls that began before it opened say nothing about what came after", () => {
  const { breaker, begin, calls, pass, call } = setup();
  const before = Array.from({ length: 10 }, () => begin());
  calls("failure", "failure", "failure", "failure");
  pass(100);
  for (const old of before.slice(0, 5)) old?.end("success");
  assert.equal(breaker.state().state, "open");
  call("success");
  for (const old of before.slice(5)) old?.end("failure");
  assert.deepEqual(breaker.state(), { state: "closed", calls: 0, failures: 0 });
});

test("only the first verdict of a call counts", () => {
  const { breaker, begin } = setup();
  const pass = begin();
  for (let i = 0; i < 10; i++) pass?.end("failure");
  assert.equal(breaker.state().calls, 1);
});

test("a new configuration holds from the next call on, and a shorter open time at once", () => {
  const { breaker, begin, pass, now } = opened({ ...config, openMs: 300 });
  assert.equal(begin({ ...config, openMs: 50, maxOpenMs: 100 }), undefined);
  assert.equal(breaker.state().retryAtMs, now() + 100);
  pass(100);
  begin({ ...config, openMs: 50, maxOpenMs: 100 })?.end("success");
  for (let i = 0; i < 2; i++) begin({ ...config, minCalls: 2 })?.end("failure");
  assert.equal(breaker.state().state, "open");
});

test("for random events it is never stuck, counts no refusals, and is closed by the first probe after recovery", () => {
  for (let seed = 1; seed <= 400; seed++) {
    const { int, of, chance } = chooser(seededRandom(seed));
    const initial = { ...config, minCalls: int(1, 8), failureRatio: of(0.1, 0.5, 1), windowMs: of(100, 1_000) };
    const { breaker, begin, pass, now } = setup(initial);
    const note = `seed ${seed}`;
    const open: BreakerPass[] = [];
    let verdicts = 0;
    for (let i = 0; i < 400; i++) {
      const event = int(0, 9);
      if (event < 5) {
        const before = breaker.state();
        const one = begin();
        if (one !== undefined) open.push(one);
        else {
          const after = breaker.state();
          assert.deepEqual(after, before, note);
          assert.ok(after.retryAtMs! > now() && after.retryAtMs! <= now() + initial.maxOpenMs, note);
        }
      } else if (event < 9) {
        const [ended] = open.splice(int(0, Math.max(0, open.length - 1)), 1);
        const verdict = of<BreakerVerdict>("success", "failure", "failure", "none");
        if (ended !== undefined && verdict !== "none") verdicts++;
        ended?.end(verdict);
      } else pass(int(0, chance(0.1) ? 500 : 30));
      const { calls, failures } = breaker.state();
      assert.ok(failures <= calls && calls <= verdicts, note);
    }
    // The peer is well from here on, and calls come one after the other, each refused or answered.
    for (let tries = 0; breaker.state().state !== "closed"; tries++) {
      assert.ok(tries < 2, note);
      const { retryAtMs = now() } = breaker.state();
      pass(Math.max(0, retryAtMs - now()));
      const probe = begin();
      assert.equal(probe?.isProbe, true, note);
      probe?.end("success");
    }
    assert.ok(begin() !== undefined, note);
  }
});

test("at any time at most one probe can decide, however calls overlap", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const { int } = chooser(seededRandom(seed));
    const { breaker, begin, pass, now } = opened();
    for (let i = 0; i < 50; i++) {
      const at = breaker.state().retryAtMs!;
      pass(Math.max(0, at - now()));
      const letThrough = Array.from({ length: int(2, 20) }, () => begin()).filter((one) => one !== undefined);
      assert.equal(letThrough.length, 1, `seed ${seed}`);
      letThrough[0]?.end(int(0, 1) === 0 ? "failure" : "none");
    }
  }
});
