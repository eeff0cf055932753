import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type CallContext, runInCall } from "#shared/call-context";
import { createLogger, createLogThrottle } from "./index.ts";

function setUp(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const logger = createLogger({ name: "test-service", config: { level: "info", format: "json" }, destination });
  return { throttle: createLogThrottle(logger), lines, tick: (ms: number) => t.mock.timers.tick(ms) };
}

function timersThatKeepAlive(): number {
  return process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
}

/** Takes the lines out: message, count and number of each. */
function taken(lines: Record<string, unknown>[]): unknown[] {
  return lines.splice(0).map(({ msg, count, n }) => [msg, count, n]);
}

test("the first line of a kind is written at once, the others as one line with their count", (t) => {
  const { throttle, lines, tick } = setUp(t);
  for (let n = 0; n < 1_000; n++) throttle.warn("refused", { n }, "publish refused");
  assert.deepEqual(taken(lines), [["publish refused", undefined, 0]]);
  tick(9_999);
  assert.deepEqual(taken(lines), []);
  tick(1);
  assert.deepEqual(taken(lines), [["publish refused", 999, 999]]);
});

test("a flood that lasts writes one line an interval, and a new one after a pause starts at once", (t) => {
  const { throttle, lines, tick } = setUp(t);
  for (let n = 0; n < 400; n++) {
    throttle.warn("refused", { n }, "publish refused");
    tick(100);
  }
  assert.deepEqual(
    taken(lines).map((line) => (line as unknown[])[1]),
    [undefined, 99, 100, 100, 100],
  );
  tick(10_000);
  assert.deepEqual(taken(lines), []);
  throttle.warn("refused", { n: -1 }, "publish refused");
  assert.deepEqual(taken(lines), [["publish refused", undefined, -1]]);
});

test("kinds are counted apart, each with its level", (t) => {
  const { throttle, lines, tick } = setUp(t);
  for (let n = 0; n < 3; n++) {
    throttle.error("a", {}, "A");
    throttle.info("b", {}, "B");
  }
  tick(10_000);
  assert.deepEqual(
    lines.map(({ level, msg, count }) => [level, msg, count]),
    [
      ["error", "A", undefined],
      ["info", "B", undefined],
      ["error", "A", 2],
      ["info", "B", 2],
    ],
  );
});

test("a flood of kinds is limited too, and kinds that have ended make room", (t) => {
  const { throttle, lines, tick } = setUp(t);
  for (let n = 0; n < 5_000; n++) throttle.warn(`kind ${n}`, { n }, "flood");
  assert.equal(lines.length, 101);
  tick(10_000);
  assert.deepEqual(taken(lines).slice(101), [["flood", 4_899, 4_999]]);
  tick(10_000);
  for (let n = 0; n < 100; n++) throttle.warn(`kind ${n}`, { n }, "again");
  assert.equal(lines.length, 100);
});

test("flush writes what is held back, once", (t) => {
  const { throttle, lines, tick } = setUp(t);
  for (let n = 0; n < 5; n++) throttle.warn("a", { n }, "A");
  throttle.flush();
  throttle.flush();
  tick(10_000);
  assert.deepEqual(taken(lines), [
    ["A", undefined, 0],
    ["A", 4, 4],
  ]);
});

test("a line that stands for many calls carries the ids of none", (t) => {
  const { throttle, lines, tick } = setUp(t);
  const call = { trace: { traceId: "4bf92f3577b34da6a3ce929d0e0e4736" }, requestId: "r-1" } as CallContext;
  runInCall(call, () => {
    for (let n = 0; n < 3; n++) throttle.warn("a", {}, "A");
    throttle.warn("b", {}, "B");
    throttle.warn("b", {}, "B");
  });
  tick(10_000);
  assert.deepEqual(
    lines.map(({ msg, count, request_id }) => [msg, count, request_id]),
    [
      ["A", undefined, "r-1"],
      ["B", undefined, "r-1"],
      ["A", 2, undefined],
      ["B", 1, undefined],
    ],
  );
});

test("its timers do not keep the process alive", (t) => {
  const { throttle } = setUp(t);
  t.mock.timers.reset();
  const before = timersThatKeepAlive();
  throttle.warn("a", {}, "A");
  assert.equal(timersThatKeepAlive(), before);
});
