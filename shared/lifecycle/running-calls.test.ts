import assert from "node:assert/strict";
import { test } from "node:test";
import { RunningCalls } from "./running-calls.ts";

class Call {
  previous: Call | undefined = undefined;
  next: Call | undefined = undefined;
  readonly reasons: unknown[] = [];
  readonly #leaves: (() => void) | undefined;

  constructor(leaves?: () => void) {
    this.#leaves = leaves;
  }

  abort(reason: unknown): void {
    this.reasons.push(reason);
    this.#leaves?.();
  }
}

test("a call in flight is told once, and one that has left is not", () => {
  for (const leaver of [0, 1, 2]) {
    const running = new RunningCalls<Call>();
    const calls = [new Call(), new Call(), new Call()];
    for (const call of calls) running.add(call);
    running.delete(calls[leaver]!);
    for (const call of running) call.abort("down");
    const told = calls.map(({ reasons }) => reasons.length);
    assert.deepEqual(
      told,
      [0, 1, 2].map((index) => (index === leaver ? 0 : 1)),
    );
  }
});

test("those that leave when they are told do not hide others, and come back", () => {
  const running = new RunningCalls<Call>();
  const calls = Array.from({ length: 3 }, () => {
    const call: Call = new Call(() => running.delete(call));
    return call;
  });
  for (const call of calls) running.add(call);
  for (const call of running) call.abort("first");
  assert.deepEqual(
    calls.map(({ reasons }) => reasons),
    [["first"], ["first"], ["first"]],
  );
  for (const call of running) call.abort("second");
  for (const call of calls) running.add(call);
  for (const call of running) call.abort("third");
  assert.deepEqual(calls[1]?.reasons, ["first", "third"]);
});

test("a call that leaves while another is told is not told", () => {
  const running = new RunningCalls<Call>();
  const taken = new Call();
  const first = new Call(() => running.delete(taken));
  const last = new Call();
  for (const call of [first, taken, last]) running.add(call);
  for (const call of running) call.abort("down");
  assert.deepEqual(
    [first, taken, last].map(({ reasons }) => reasons.length),
    [1, 0, 1],
  );
  assert.equal(running.size, 2);
});

test("leaving twice, or without being a member, removes no other call", () => {
  const running = new RunningCalls<Call>();
  const calls = [new Call(), new Call()];
  for (const call of calls) running.add(call);
  running.delete(calls[0]!);
  running.delete(calls[0]!);
  running.delete(new Call());
  assert.deepEqual([...running], [calls[1]]);
  assert.equal(running.size, 1);
});

test("a call that has left refers to no other", () => {
  const running = new RunningCalls<Call>();
  const calls = [new Call(), new Call(), new Call()];
  for (const call of calls) running.add(call);
  running.delete(calls[1]!);
  assert.equal(calls[1]?.previous, undefined);
  assert.equal(calls[1]?.next, undefined);
  assert.equal(calls[0]?.next, calls[2]);
});
