import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, createClient, createContextValues, createRouterTransport } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { type CallContext, runInCall, startTrace } from "#shared/call-context";
import type { MethodPolicy } from "../../call/method-policy.ts";
import { notProcessed } from "../../call/not-processed-error.ts";
import { outgoingCallKey } from "../../call/outgoing-call.ts";
import { transparentRetryInterceptor } from "../transparent-retry.ts";
import { retryInterceptor } from "./retry.ts";
import { createRetryThrottle } from "./retry-throttle.ts";
import {
  callOf,
  deadlineSignal,
  defaultRetry,
  failureOf,
  fakeClock,
  pushedBack,
  type Step,
  scriptedPeer,
  streamAnswer,
  streamRequest,
  unaryRequest,
} from "./test-support.ts";

function setup(t: TestContext, ...script: [Step, ...Step[]]) {
  const clock = fakeClock(t);
  const throttle = createRetryThrottle({ maxTokens: 100, tokenRatio: 0.1 });
  const peer = scriptedPeer(clock, ...script);
  const call = retryInterceptor({ throttle, random: () => 0.5, now: clock.now })(peer.next);
  return { clock, throttle, call, ...peer };
}

const safe: Partial<MethodPolicy> = { retry: defaultRetry };

test("an attempt that fails is followed by others after growing delays, until one succeeds", async (t) => {
  const { clock, call, times, sends, throttle } = setup(
    t,
    { with: Code.Unavailable },
    { with: Code.Unavailable, afterMs: 10 },
    { with: "ok" },
  );
  await clock.run(call(unaryRequest(callOf(safe))));
  assert.deepEqual(times(), [1_000, 1_100, 1_310]);
  assert.deepEqual(
    sends.map(({ header }) => [header.get("grpc-previous-rpc-attempts"), header.get("x-retry-chain")]),
    [
      [null, null],
      ["1", "1"],
      ["2", "1"],
    ],
  );
  assert.equal(throttle.tokens(), 98.1);
});

test("when all attempts have failed, the last failure is the call's", async (t) => {
  const last = new ConnectError("last", Code.Unavailable);
  const { clock, call, sends } = setup(
    t,
    { with: Code.Unavailable },
    { with: Code.Unavailable },
    { with: Code.Unavailable },
    { with: last },
  );
  assert.equal(await clock.run(failureOf(call(unaryRequest(callOf(safe))))), last);
  assert.equal(sends.length, 4);
});

test("a code that is not retryable ends the call at once", async (t) => {
  const { clock, call, sends, throttle } = setup(t, { with: Code.NotFound });
  const error = await clock.run(failureOf(call(unaryRequest(callOf(safe)))));
  assert.equal(error.code, Code.NotFound);
  assert.equal(sends.length, 1);
  assert.equal(throttle.tokens(), 100);
});

test("calls without a policy, or without a retry in it, pass straight through", async (t) => {
  for (const call of [undefined, callOf({})]) {
    const { call: send, sends, clock } = setup(t, { with: Code.Unavailable });
    const req = unaryRequest(call);
    await clock.run(failureOf(send(req)));
    assert.equal(sends.length, 1);
    assert.equal(sends[0]?.req, req);
    t.mock.restoreAll();
  }
});

test("each attempt has headers of its own, which tell the time that is left", async (t) => {
  const { clock, call, sends } = setup(t, { with: Code.Unavailable, afterMs: 7.5 }, { with: "ok" });
  const header = { "grpc-timeout": "3000m", "connect-timeout-ms": "3000", "x-tenant": "a" };
  await clock.run(call(unaryRequest(callOf(safe, 4_000), { header })));
  const [first, second] = sends;
  assert.equal(first?.header.get("grpc-timeout"), "3000m");
  assert.equal(second?.header.get("grpc-timeout"), "2892m");
  assert.equal(second?.header.get("connect-timeout-ms"), "2892");
  assert.equal(second?.header.get("x-tenant"), "a");
  assert.notEqual(first?.req.header, second?.req.header);
  assert.equal(first?.req.header.has("grpc-previous-rpc-attempts"), false);
});

test("no attempt is made when the delay would outlast the deadline: the call fails at once", async (t) => {
  for (const [deadlineMs, attempts] of [
    [1_100, 1],
    [1_101, 2],
    [1_300, 2],
    [1_301, 3],
  ] as const) {
    const { clock, call, times } = setup(t, { with: Code.Unavailable });
    const error = await clock.run(failureOf(call(unaryRequest(callOf(safe, deadlineMs)))));
    assert.equal(error.code, Code.Unavailable);
    assert.equal(times().length, attempts);
    assert.equal(clock.now(), times().at(-1));
    t.mock.restoreAll();
  }
});

test("no attempt begins later than retry.timeout after the call's begin; one that has begun goes on", async (t) => {
  const policy = { retry: { ...defaultRetry, timeoutMs: 250 } };
  const { clock, call, times } = setup(t, { with: Code.Unavailable }, { with: Code.Unavailable, afterMs: 1_000 });
  await clock.run(failureOf(call(unaryRequest(callOf(policy)))));
  assert.deepEqual(times(), [1_000, 1_100]);
  assert.equal(clock.now(), 2_100);
});

test("a pushback beyond the deadline fails the call at once", async (t) => {
  const { clock, call, sends } = setup(t, { with: pushedBack("3000") });
  await clock.run(failureOf(call(unaryRequest(callOf(safe, 4_000)))));
  assert.equal(sends.length, 1);
  assert.equal(clock.now(), 1_000);
});

test("a call whose signal fires ends at once, also between attempts, and leaves no timer", async (t) => {
  for (const afterMs of [0, 50, 150]) {
    const { clock, call, sends } = setup(t, { with: Code.Unavailable, afterMs: 100 });
    const leaving = new AbortController();
    setTimeout(() => leaving.abort(), afterMs);
    const error = await clock.run(failureOf(call(unaryRequest(callOf(safe), { signal: leaving.signal }))));
    assert.equal(error.code, Code.Canceled);
    assert.equal(sends.length, 1);
    assert.equal(clock.now(), 1_000 + afterMs);
    // The scripted answer is the only one that may be left.
    assert.ok(clock.timers() <= (afterMs < 100 ? 1 : 0));
    await clock.advance(10_000);
    assert.equal(sends.length, 1);
    t.mock.restoreAll();
  }
});

test("an attempt that takes longer than attempt_timeout is cancelled, and the next is made", async (t) => {
  const policy = { retry: { ...defaultRetry, attemptTimeoutMs: 300 } };
  const { clock, call, sends, times, throttle } = setup(t, {}, { with: "ok", afterMs: 299 });
  await clock.run(call(unaryRequest(callOf(policy))));
  assert.deepEqual(times(), [1_000, 1_400]);
  assert.equal(ConnectError.from(sends[0]?.req.signal.reason).code, Code.DeadlineExceeded);
  assert.equal(sends[1]?.req.signal.aborted, false);
  assert.equal(clock.timers(), 0);
  assert.equal(throttle.tokens(), 99.1);
});

test("the time of an attempt begins when a peer is picked: waiting for one is no attempt that fails", async (t) => {
  const policy = { waitForReady: true, retry: { ...defaultRetry, attemptTimeoutMs: 300 } };
  const { clock, call, times, throttle } = setup(t, { pickedAfterMs: 4_000, with: "ok", afterMs: 299 });
  const out = callOf(policy, 6_000);
  await clock.run(call(unaryRequest(out)));
  assert.deepEqual(times(), [1_000]);
  assert.equal(clock.now(), 5_299);
  assert.equal(throttle.tokens(), 100);
  assert.equal(clock.timers(), 0);
  assert.deepEqual([out.onPick, out.onUnpick], [undefined, undefined]);
});

test("an attempt that is sent again, since it never left, waits for its next peer as long as for its first", async (t) => {
  const policy = { waitForReady: true, retry: { ...defaultRetry, attemptTimeoutMs: 300 } };
  const clock = fakeClock(t);
  const throttle = createRetryThrottle({ maxTokens: 100, tokenRatio: 0.1 });
  const peer = scriptedPeer(
    clock,
    { with: notProcessed("unsent", "the connection has gone"), afterMs: 200 },
    { pickedAfterMs: 1_000, with: "ok", afterMs: 299 },
  );
  const resent = transparentRetryInterceptor({ now: clock.now })(peer.next);
  const call = retryInterceptor({ throttle, random: () => 0.5, now: clock.now })(resent);
  await clock.run(call(unaryRequest(callOf(policy))));
  assert.deepEqual(peer.times(), [1_000, 1_200]);
  assert.equal(clock.now(), 2_499);
  assert.equal(throttle.tokens(), 100);
});

test("when each attempt took too long, that is how the call fails", async (t) => {
  const policy = { retry: { ...defaultRetry, max: 1, attemptTimeoutMs: 300 } };
  const { clock, call, sends } = setup(t, {});
  const error = await clock.run(failureOf(call(unaryRequest(callOf(policy)))));
  assert.equal(error.code, Code.DeadlineExceeded);
  assert.equal(sends.length, 2);
});

test("the call's deadline bounds an attempt with a timeout of its own, and is no reason to retry", async (t) => {
  const policy = { retry: { ...defaultRetry, codes: [Code.DeadlineExceeded], attemptTimeoutMs: 300 } };
  const { clock, call, sends } = setup(t, {});
  const signal = deadlineSignal(200);
  const error = await clock.run(failureOf(call(unaryRequest(callOf(policy, 1_200), { signal }))));
  assert.equal(error.code, Code.DeadlineExceeded);
  assert.equal(sends.length, 1);
  assert.equal(clock.now(), 1_200);
  assert.equal(clock.timers(), 0);
});

test("without a connection a call is sent again though its method must not be sent twice", async (t) => {
  const { clock, call, sends } = setup(
    t,
    { with: notProcessed("unreachable", "no connection") },
    { with: Code.Unavailable },
  );
  const policy = { unreachableRetry: { ...defaultRetry, attemptTimeoutMs: 10 } };
  const error = await clock.run(failureOf(call(unaryRequest(callOf(policy)))));
  assert.equal(error.message, "[unavailable] scripted");
  assert.equal(sends.length, 2);
});

function incoming(overrides: Partial<CallContext>): CallContext {
  return { method: "a.B/C", requestId: "r", trace: startTrace(), signal: new AbortController().signal, ...overrides };
}

test("a call that works for a retried one is not retried", async (t) => {
  for (const failure of [Code.Unavailable, notProcessed("unreachable", "no connection")]) {
    const { clock, call, sends } = setup(t, { with: failure });
    await clock.run(failureOf(runInCall(incoming({ isRetried: true }), () => call(unaryRequest(callOf(safe))))));
    assert.equal(sends.length, 1);
    t.mock.restoreAll();
  }
});

test("a chain of services makes as many attempts as its first service, not their product", async (t) => {
  const clock = fakeClock(t);
  const attempts = { b: 0, c: 0 };
  const make = () => createRetryThrottle({ maxTokens: 100, tokenRatio: 0.1 });
  const callC = retryInterceptor({ throttle: make(), random: () => 0.5, now: clock.now })(() => {
    attempts.c++;
    return Promise.reject(new ConnectError("down", Code.Unavailable));
  });
  const callB = retryInterceptor({ throttle: make(), random: () => 0.5, now: clock.now })((req) => {
    attempts.b++;
    const isRetried = req.header.get("x-retry-chain") === "1";
    return runInCall(incoming(isRetried ? { isRetried } : {}), () => callC(unaryRequest(callOf(safe))));
  });
  await clock.run(failureOf(callB(unaryRequest(callOf(safe)))));
  assert.deepEqual(attempts, { b: 4, c: 4 + 3 });
});

test("a call that has ended says nothing of its peer, whatever is retryable", async (t) => {
  const policy = { retry: { ...defaultRetry, codes: [Code.Canceled, Code.DeadlineExceeded] } };
  for (const signal of [() => AbortSignal.abort(), () => deadlineSignal(10)]) {
    const { clock, call, sends, throttle } = setup(t, {});
    await clock.run(failureOf(call(unaryRequest(callOf(policy), { signal: signal() }))));
    assert.equal(sends.length, 1);
    assert.equal(throttle.tokens(), 100);
    t.mock.restoreAll();
  }
});

async function* texts(...items: string[]) {
  yield* items;
}

async function readAll(messages: AsyncIterable<unknown>, most = Number.POSITIVE_INFINITY): Promise<unknown[]> {
  const iterator = messages[Symbol.asyncIterator]();
  const seen: unknown[] = [];
  while (seen.length < most) {
    const result = await iterator.next();
    if (result.done === true) break;
    seen.push(result.value);
  }
  return seen;
}

test("a stream is retried from its first message while what was taken of it is kept", async (t) => {
  for (const [taken, attempts] of [
    [0, 2],
    [1, 2],
    [2, 2],
    [3, 1],
  ] as const) {
    const clock = fakeClock(t);
    const seen: unknown[][] = [];
    const call = retryInterceptor({ throttle: createRetryThrottle({ maxTokens: 9, tokenRatio: 1 }), now: clock.now })(
      async (req) => {
        assert.ok(req.stream);
        const isFirst = seen.length === 0;
        seen.push(await readAll(req.message, isFirst ? taken : undefined));
        if (isFirst) throw new ConnectError("down", Code.Unavailable);
        return streamAnswer(texts());
      },
    );
    const work = call(streamRequest(callOf(safe), texts("a", "b", "c")));
    if (attempts === 1) await clock.run(failureOf(work));
    else await clock.run(work);
    assert.equal(seen.length, attempts);
    if (attempts === 2) assert.deepEqual(seen[1], ["a", "b", "c"]);
    t.mock.restoreAll();
  }
});

test("the source of a stream does not hear of an attempt that failed, and hears of the last", async (t) => {
  const clock = fakeClock(t);
  const thrown: unknown[] = [];
  const source: AsyncIterable<string> = {
    [Symbol.asyncIterator]: () => ({
      next: () => Promise.resolve({ done: false, value: "a" }),
      throw(error) {
        thrown.push(error);
        return Promise.reject(error);
      },
    }),
  };
  const errors: ConnectError[] = [];
  const throttle = createRetryThrottle({ maxTokens: 100, tokenRatio: 1 });
  const call = retryInterceptor({ throttle, now: clock.now })(async (req) => {
    assert.ok(req.stream);
    const iterator = req.message[Symbol.asyncIterator]();
    await iterator.next();
    const error = new ConnectError(`attempt ${errors.length}`, Code.Unavailable);
    errors.push(error);
    await iterator.throw?.(error).catch(() => {});
    throw error;
  });
  await clock.run(failureOf(call(streamRequest(callOf(safe), source))));
  assert.equal(errors.length, 4);
  assert.deepEqual(thrown, [errors[3]]);
});

test("a stream that was answered is not retried, and its attempt's time is not counted any more", async (t) => {
  async function* broken() {
    yield "a";
    await new Promise((resolve) => setTimeout(resolve, 500));
    throw new ConnectError("broken off", Code.Unavailable);
  }
  const policy = { retry: { ...defaultRetry, attemptTimeoutMs: 300 } };
  const { clock, call, sends } = setup(t, { with: streamAnswer(broken()) });
  const res = await clock.run(call(streamRequest(callOf(policy), texts("a"))));
  assert.ok(res.stream);
  const error = await clock.run(failureOf(readAll(res.message)));
  assert.equal(error.rawMessage, "broken off");
  assert.equal(sends.length, 1);
  assert.equal(sends[0]?.req.signal.aborted, false);
});

test("through Connect's own transport: attempts, headers and pushback as a server sees and sends them", async (t) => {
  const clock = fakeClock(t);
  const seen: [number, string | null, string | null][] = [];
  const transport = createRouterTransport(
    ({ service }) =>
      service(BookService, {
        getBook(_, { requestHeader }) {
          seen.push([
            clock.now(),
            requestHeader.get("grpc-previous-rpc-attempts"),
            requestHeader.get("connect-timeout-ms"),
          ]);
          if (seen.length === 2) throw pushedBack("250");
          if (seen.length < 4) throw new ConnectError("down", Code.Unavailable);
          return {};
        },
      }),
    {
      transport: {
        interceptors: [
          retryInterceptor({
            throttle: createRetryThrottle({ maxTokens: 100, tokenRatio: 0.1 }),
            random: () => 0.5,
            now: clock.now,
          }),
          transparentRetryInterceptor({ now: clock.now }),
        ],
      },
    },
  );
  const call = callOf(safe, clock.now() + 2_000);
  const contextValues = createContextValues().set(outgoingCallKey, call);
  await clock.run(createClient(BookService, transport).getBook({ id: "b1" }, { contextValues, timeoutMs: 2_000 }));
  assert.deepEqual(seen, [
    [1_000, null, "2000"],
    [1_100, "1", "1900"],
    [1_350, "2", "1650"],
    [1_450, "3", "1550"],
  ]);
  assert.equal(call.attempts, 4);
});
