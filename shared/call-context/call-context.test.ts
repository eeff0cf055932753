import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type CallContext,
  currentCall,
  detached,
  iterateInCall,
  remainingMs,
  runInCall,
  startTrace,
} from "#shared/call-context";

function callOf(overrides: Partial<CallContext> = {}): CallContext {
  return { method: "a.B/C", requestId: "r", trace: startTrace(), signal: new AbortController().signal, ...overrides };
}

test("there is no call outside of one", () => {
  assert.equal(currentCall(), undefined);
});

test("all that a call starts is part of it, and two at once keep apart", async () => {
  const seen = await Promise.all(
    ["one", "two"].map((requestId) =>
      runInCall(callOf({ requestId }), async () => {
        await new Promise(setImmediate);
        return currentCall()?.requestId;
      }),
    ),
  );
  assert.deepEqual(seen, ["one", "two"]);
});

test("detached work of a retried call still descends from it", () => {
  assert.equal(
    runInCall(callOf({ isRetried: true }), () => detached(() => currentCall()?.isRetried)),
    true,
  );
});

test("detached work keeps trace, request id and caller, and loses deadline and cancellation", () => {
  const leaving = new AbortController();
  const call = callOf({ caller: "gateway", deadlineMs: performance.now() + 10, signal: leaving.signal });
  const inner = runInCall(call, () => detached(() => currentCall()));
  leaving.abort();
  assert.equal(inner?.trace, call.trace);
  assert.equal(inner?.requestId, call.requestId);
  assert.equal(inner?.caller, "gateway");
  assert.equal(inner?.deadlineMs, undefined);
  assert.equal(inner?.signal.aborted, false);
});

test("detaching outside of a call just runs the work", () => {
  assert.equal(
    detached(() => currentCall()),
    undefined,
  );
});

test("what remains is never negative, and endless without a deadline", () => {
  assert.equal(remainingMs(callOf()), Number.POSITIVE_INFINITY);
  assert.equal(remainingMs(callOf({ deadlineMs: performance.now() - 1_000 })), 0);
  const remaining = remainingMs(callOf({ deadlineMs: performance.now() + 60_000 }));
  assert.ok(remaining > 59_000 && remaining <= 60_000, String(remaining));
});

test("a generator's body runs in the call, whoever pulls", async () => {
  async function* ids() {
    yield currentCall()?.requestId;
    await new Promise(setImmediate);
    yield currentCall()?.requestId;
  }
  const seen: unknown[] = [];
  for await (const id of iterateInCall(callOf({ requestId: "mine" }), ids())) seen.push(id, currentCall());
  assert.deepEqual(seen, ["mine", undefined, "mine", undefined]);
});

test("leaving the iteration early closes the source, in the call", async () => {
  let closedIn: string | undefined;
  async function* endless() {
    try {
      for (;;) yield 1;
    } finally {
      closedIn = currentCall()?.requestId;
    }
  }
  for await (const _ of iterateInCall(callOf({ requestId: "mine" }), endless())) break;
  assert.equal(closedIn, "mine");
});

test("a source's error comes through, and the source is not closed twice", async () => {
  let returns = 0;
  const source: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({
      next: () => Promise.reject(new Error("broken")),
      return: () => {
        returns++;
        return Promise.resolve({ done: true, value: undefined });
      },
    }),
  };
  await assert.rejects(async () => {
    for await (const _ of iterateInCall(callOf(), source));
  }, /broken/);
  assert.equal(returns, 0);
});
