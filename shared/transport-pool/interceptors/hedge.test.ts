import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, createClient, createContextValues, createRouterTransport } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { runInCall, startTrace } from "#shared/call-context";
import { seededRandom } from "#shared/testing";
import { notProcessed } from "../call/not-processed-error.ts";
import { outgoingCallKey } from "../call/outgoing-call.ts";
import type { HedgeConfig } from "../config/hedge.ts";
import { hedgeInterceptor } from "./hedge.ts";
import { createRetryThrottle } from "./retry/retry-throttle.ts";
import {
  callOf,
  chooser,
  deadlineSignal,
  failureOf,
  fakeClock,
  pushedBack,
  type Step,
  scriptedPeer,
  streamAnswer,
  streamRequest,
  unaryRequest,
} from "./retry/test-support.ts";

const hedge: HedgeConfig = { delayMs: 50, max: 3, codes: [Code.Unavailable] };

function setup(t: TestContext, ...script: [Step, ...Step[]]) {
  const clock = fakeClock(t);
  const throttle = createRetryThrottle({ maxTokens: 100, tokenRatio: 0.1 });
  const peer = scriptedPeer(clock, ...script);
  return { clock, throttle, call: hedgeInterceptor({ throttle, now: clock.now })(peer.next), ...peer };
}

function fired(sends: readonly { readonly req: { readonly signal: AbortSignal } }[]): boolean[] {
  return sends.map(({ req }) => req.signal.aborted);
}

test("an answer within the delay needs no hedge", async (t) => {
  const { clock, call, sends } = setup(t, { with: "ok", afterMs: 49 });
  await clock.run(call(unaryRequest(callOf({ hedge }))));
  assert.equal(sends.length, 1);
  assert.equal(clock.timers(), 0);
});

test("while there is no answer a hedge is sent after each delay; the first answer wins and ends the others", async (t) => {
  const { clock, call, sends, times, throttle } = setup(t, {}, { with: "ok", afterMs: 70 }, {});
  const header = { "grpc-timeout": "3000m" };
  await clock.run(call(unaryRequest(callOf({ hedge }, 4_000), { header })));
  assert.deepEqual(times(), [1_000, 1_050, 1_100]);
  assert.equal(clock.now(), 1_120);
  assert.deepEqual(fired(sends), [true, true, true]);
  assert.equal(ConnectError.from(sends[0]?.req.signal.reason).code, Code.Canceled);
  assert.deepEqual(
    sends.map(({ header }) =>
      ["grpc-previous-rpc-attempts", "x-retry-chain", "grpc-timeout"].map((n) => header.get(n)),
    ),
    [
      [null, null, "3000m"],
      ["1", "1", "2950m"],
      ["2", "1", "2900m"],
    ],
  );
  assert.equal(throttle.tokens(), 100);
  assert.equal(clock.timers(), 0);
});

test("there are no more hedges than max, and the call goes on waiting for those", async (t) => {
  const { clock, call, times } = setup(t, { with: "ok", afterMs: 10_000 });
  await clock.run(call(unaryRequest(callOf({ hedge }))));
  assert.deepEqual(times(), [1_000, 1_050, 1_100, 1_150]);
  assert.equal(clock.now(), 11_000);
});

test("with a delay of 0 all are sent at once", async (t) => {
  const { clock, call, times } = setup(t, { with: "ok", afterMs: 10 });
  await clock.run(call(unaryRequest(callOf({ hedge: { ...hedge, delayMs: 0 } }))));
  assert.deepEqual(times(), [1_000, 1_000, 1_000, 1_000]);
});

test("a failure that is not fatal sends the next hedge at once, and the delay begins again", async (t) => {
  const { clock, call, times, throttle } = setup(
    t,
    { with: Code.Unavailable, afterMs: 20 },
    {},
    { with: "ok", afterMs: 5 },
  );
  await clock.run(call(unaryRequest(callOf({ hedge }))));
  assert.deepEqual(times(), [1_000, 1_020, 1_070]);
  assert.equal(throttle.tokens(), 99.1);
});

test("a fatal failure ends all", async (t) => {
  const { clock, call, sends } = setup(t, {}, { with: Code.NotFound, afterMs: 10 });
  const error = await clock.run(failureOf(call(unaryRequest(callOf({ hedge })))));
  assert.equal(error.code, Code.NotFound);
  assert.equal(sends.length, 2);
  assert.deepEqual(fired(sends), [true, true]);
  await clock.advance(1_000);
  assert.equal(sends.length, 2);
  assert.equal(clock.timers(), 0);
});

test("when all have failed, the last failure is the call's", async (t) => {
  const last = new ConnectError("last", Code.Unavailable);
  const { clock, call, sends } = setup(
    t,
    { with: Code.Unavailable, afterMs: 200 },
    { with: Code.Unavailable, afterMs: 1 },
    { with: Code.Unavailable, afterMs: 1 },
    { with: last, afterMs: 300 },
  );
  assert.equal(await clock.run(failureOf(call(unaryRequest(callOf({ hedge }))))), last);
  assert.equal(sends.length, 4);
});

test("a pushback delays the next hedge, also when nothing else is under way", async (t) => {
  const { clock, call, times } = setup(t, { with: pushedBack("400"), afterMs: 10 }, {}, { with: "ok", afterMs: 5 });
  await clock.run(call(unaryRequest(callOf({ hedge }))));
  assert.deepEqual(times(), [1_000, 1_410, 1_460]);
});

test("a pushback that forbids to retry ends the hedges; what is under way may still succeed", async (t) => {
  const { clock, call, times, throttle } = setup(
    t,
    { with: "ok", afterMs: 500 },
    { with: pushedBack("-1"), afterMs: 10 },
  );
  await clock.run(call(unaryRequest(callOf({ hedge }))));
  assert.deepEqual(times(), [1_000, 1_050]);
  assert.equal(throttle.tokens(), 99.1);
  t.mock.restoreAll();

  const alone = setup(t, { with: pushedBack("-1"), afterMs: 10 });
  const error = await alone.clock.run(failureOf(alone.call(unaryRequest(callOf({ hedge })))));
  assert.equal(error.rawMessage, "pushed back");
  assert.equal(alone.sends.length, 1);
});

test("hedges are sent only while the bucket is more than half full; the first attempt always is", async (t) => {
  const { clock, call, throttle, times } = setup(t, { with: Code.Unavailable, afterMs: 10 });
  for (let i = 0; i < 48; i++) throttle.failed();
  await clock.run(failureOf(call(unaryRequest(callOf({ hedge })))));
  assert.deepEqual(times(), [1_000, 1_010]);
  await clock.run(failureOf(call(unaryRequest(callOf({ hedge })))));
  assert.equal(times().length, 3);
});

test("what the peer has not worked on is not fatal, and costs nothing without a connection", async (t) => {
  const policy = { hedge: { ...hedge, codes: [Code.Aborted] } };
  const { clock, call, sends, throttle } = setup(
    t,
    { with: notProcessed("unreachable", "no connection") },
    { with: "ok" },
  );
  throttle.failed();
  await clock.run(call(unaryRequest(callOf(policy))));
  assert.equal(sends.length, 2);
  assert.equal(throttle.tokens(), 99.1);
});

test("a call whose signal fires ends at once with its reason, and all of its attempts with it", async (t) => {
  const { clock, call, sends } = setup(t, {});
  const req = unaryRequest(callOf({ hedge }, 1_075), { signal: deadlineSignal(75) });
  const error = await clock.run(failureOf(call(req)));
  assert.equal(error.code, Code.DeadlineExceeded);
  assert.equal(clock.now(), 1_075);
  assert.deepEqual(fired(sends), [true, true]);
  assert.equal(ConnectError.from(sends[1]?.req.signal.reason).code, Code.DeadlineExceeded);
  assert.equal(clock.timers(), 0);
});

test("streams, calls without a hedge and calls of a retried chain are sent once", async (t) => {
  const { clock, call, sends } = setup(t, { with: streamAnswer(none()), afterMs: 500 });
  const stream = streamRequest(callOf({ hedge }), none());
  await clock.run(call(stream));
  assert.equal(sends[0]?.req, stream);
  for (const policy of [undefined, callOf({})]) await clock.run(call(unaryRequest(policy)));
  const incoming = { method: "a.B/C", requestId: "r", trace: startTrace(), signal: new AbortController().signal };
  await clock.run(runInCall({ ...incoming, isRetried: true }, () => call(unaryRequest(callOf({ hedge })))));
  assert.equal(sends.length, 4);
});

async function* none() {}

test("through Connect's own transport, the server sees the loser's cancellation, and the winner's is never seen", async (t) => {
  const clock = fakeClock(t);
  const cancelled: string[] = [];
  const transport = createRouterTransport(
    ({ service }) =>
      service(BookService, {
        async getBook(_, { requestHeader, signal }) {
          const name = requestHeader.get("grpc-previous-rpc-attempts") ?? "first";
          let isDone = false;
          signal.addEventListener("abort", () => isDone || cancelled.push(name));
          await new Promise((resolve) => setTimeout(resolve, name === "first" ? 500 : 20));
          isDone = true;
          return { book: { id: name } };
        },
      }),
    {
      transport: {
        interceptors: [
          hedgeInterceptor({ throttle: createRetryThrottle({ maxTokens: 9, tokenRatio: 1 }), now: clock.now }),
        ],
      },
    },
  );
  const contextValues = createContextValues().set(outgoingCallKey, callOf({ hedge }));
  const { book } = await clock.run(createClient(BookService, transport).getBook({ id: "b1" }, { contextValues }));
  assert.equal(book?.id, "1");
  assert.deepEqual(cancelled, ["first"]);
  assert.equal(clock.now(), 1_070);
});

test("for random answers: never more than max, always an end, nothing left behind, one answer", async (t) => {
  for (let seed = 1; seed <= 300; seed++) {
    const { int, of, chance } = chooser(seededRandom(seed));
    const config = { delayMs: of(0, 10, 50), max: int(1, 4), codes: [Code.Unavailable] };
    const script = Array.from({ length: 5 }, (): Step => {
      if (chance(0.2)) return {};
      const answer = of<Step["with"]>("ok", Code.Unavailable, Code.Internal, pushedBack("30"), pushedBack("-1"));
      return { afterMs: int(0, 200), with: answer };
    });
    const { clock, call, sends, times } = setup(t, ...(script as [Step, ...Step[]]));
    const req = unaryRequest(callOf({ hedge: config }, 1_400), { signal: deadlineSignal(400) });
    const error = await clock.run(
      call(req).then(
        () => undefined,
        (reason: unknown) => ConnectError.from(reason),
      ),
    );
    const note = `seed ${seed}`;
    const endedAt = clock.now();
    assert.ok(sends.length <= config.max + 1, note);
    assert.ok(fired(sends).every(Boolean), note);
    // The first answer that ends the call is the one that it got.
    const endings = times().flatMap((at, index) => {
      const { afterMs, with: answer } = script[index]!;
      return answer === "ok" || answer === Code.Internal ? [{ at: at + afterMs!, answer }] : [];
    });
    const first = endings.toSorted((a, b) => a.at - b.at)[0];
    if (error === undefined) assert.equal(first?.answer, "ok", note);
    else if (error.code === Code.Internal) assert.equal(first?.answer, Code.Internal, note);
    else assert.ok(first === undefined || first.at > endedAt - 1e-6, note);
    await clock.advance(1_000);
    assert.ok(
      times().every((at) => at <= endedAt),
      note,
    );
    assert.equal(clock.timers(), 0, note);
    t.mock.restoreAll();
  }
});
