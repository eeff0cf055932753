import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createEventLoopDelay } from "./event-loop-delay.ts";

function setUp(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let nowMs = 0;
  const delay = createEventLoopDelay({ now: () => nowMs });
  /** One look, so much too late. */
  function look(lateMs: number): void {
    nowMs += 50 + lateMs;
    t.mock.timers.tick(50);
  }
  return { delay, look };
}

test("the delay is what each of the last looks was late at the least", (t) => {
  const { delay, look } = setUp(t);
  delay.start();
  look(300);
  look(200);
  assert.equal(delay.delayMs(), 0);
  look(250);
  assert.equal(delay.delayMs(), 200);
  look(400);
  assert.equal(delay.delayMs(), 200);
  look(400);
  assert.equal(delay.delayMs(), 250);
});

test("one long pause is no delay, and one look in time ends it", (t) => {
  const { delay, look } = setUp(t);
  delay.start();
  for (const lateMs of [0, 0, 5_000]) look(lateMs);
  assert.equal(delay.delayMs(), 0);
  for (const lateMs of [300, 300]) look(lateMs);
  assert.equal(delay.delayMs(), 300);
  look(0);
  assert.equal(delay.delayMs(), 0);
});

test("a clock that runs ahead of its timers' is not late", (t) => {
  const { delay, look } = setUp(t);
  delay.start();
  for (const lateMs of [-1, -1, -1]) look(lateMs);
  assert.equal(delay.delayMs(), 0);
});

test("stopped, it forgets and looks no more; started twice, it looks once", (t) => {
  const { delay, look } = setUp(t);
  delay.start();
  delay.start();
  for (let i = 0; i < 3; i++) look(100);
  assert.equal(delay.delayMs(), 100);
  delay.stop();
  for (let i = 0; i < 3; i++) look(100);
  assert.equal(delay.delayMs(), 0);
});
