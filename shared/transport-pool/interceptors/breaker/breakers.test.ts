import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createLogger } from "#shared/logging";
import { seededRandom } from "#shared/testing";
import { notProcessed, notProcessedKind } from "../../call/not-processed-error.ts";
import { type BreakerConfig, breakerSection } from "../../config/breaker.ts";
import {
  callOf,
  chooser,
  deadlineSignal,
  failureOf,
  fakeClock,
  type Step,
  scriptedPeer,
  streamAnswer,
  streamRequest,
  unaryAnswer,
  unaryRequest,
} from "../retry/test-support.ts";
import { logBreaker } from "./breaker-log.ts";
import { createBreakers } from "./breakers.ts";

const breaker: BreakerConfig = { ...breakerSection.parse({}), minCalls: 2, openMs: 100, maxOpenMs: 1_000 };
const METHOD = "book.v1.BookService/GetBook";
const STREAM = "order.v1.OrderService/WatchOrder";

function setup(t: TestContext, ...script: [Step, ...Step[]]) {
  const clock = fakeClock(t);
  const changes: string[] = [];
  const breakers = createBreakers({
    now: clock.now,
    onChange: (method, { state }) => changes.push(`${method} ${state}`),
  });
  const peer = scriptedPeer(clock, ...script);
  const call = breakers.interceptor(peer.next);
  return { clock, changes, call, stateOf: (method = METHOD) => breakers.states().get(method), ...peer };
}

test("an open breaker refuses calls with UNAVAILABLE, says what and for how long, and sends nothing", async (t) => {
  const { clock, call, sends, changes, stateOf } = setup(t, { with: Code.Internal });
  for (let i = 0; i < 2; i++) await failureOf(call(unaryRequest(callOf({ breaker }))));
  for (let i = 0; i < 50; i++) {
    const error = await failureOf(call(unaryRequest(callOf({ breaker }))));
    assert.equal(error.code, Code.Unavailable);
    assert.equal(notProcessedKind(error), "rejected");
    assert.match(error.message, /book\.v1\.BookService\/GetBook .* 100 ms/);
  }
  assert.equal(sends.length, 2);
  assert.deepEqual(stateOf(), { state: "open", calls: 2, failures: 2, retryAtMs: clock.now() + 100 });
  assert.deepEqual(changes, [`${METHOD} open`]);
});

test("while a probe is under way other calls are refused, and it decides", async (t) => {
  const { clock, call, stateOf } = setup(
    t,
    { with: Code.Internal },
    { with: Code.Internal },
    { with: "ok", afterMs: 20 },
  );
  for (let i = 0; i < 2; i++) await failureOf(call(unaryRequest(callOf({ breaker }))));
  await clock.advance(100);
  const probe = call(unaryRequest(callOf({ breaker })));
  const error = await failureOf(call(unaryRequest(callOf({ breaker }))));
  assert.equal(notProcessedKind(error), "rejected");
  await clock.run(probe);
  assert.equal(stateOf()?.state, "closed");
});

for (const [what, code, failures] of [
  ["the peer is unwell", Code.Unavailable, 1],
  ["a bug in the peer", Code.Unknown, 1],
  ["a wrong argument", Code.InvalidArgument, 0],
  ["nothing found", Code.NotFound, 0],
  ["no such method", Code.Unimplemented, 0],
  ["a quota", Code.ResourceExhausted, 0],
] as const) {
  test(`what counts as a failure: ${what}: ${failures}`, async (t) => {
    const { call, stateOf } = setup(t, { with: code });
    await failureOf(call(unaryRequest(callOf({ breaker }))));
    assert.deepEqual(stateOf(), { state: "closed", calls: 1, failures });
  });
}

test("what did not reach the peer does not count", async (t) => {
  const { clock, call, stateOf } = setup(
    t,
    { with: notProcessed("unreachable", "no connection") },
    { with: notProcessed("unsent", "gone") },
    { with: notProcessed("refused", "REFUSED_STREAM") },
    { with: notProcessed("rejected", "another breaker") },
  );
  for (let i = 0; i < 4; i++) await clock.run(failureOf(call(unaryRequest(callOf({ breaker })))));
  assert.deepEqual(stateOf(), { state: "closed", calls: 0, failures: 0 });
});

test("what this side cancelled does not count; a deadline that passes at the peer does", async (t) => {
  const { clock, call, stateOf } = setup(t, {});
  const leaving = new AbortController();
  setTimeout(() => leaving.abort(), 10);
  await clock.run(failureOf(call(unaryRequest(callOf({ breaker }), { signal: leaving.signal }))));
  assert.deepEqual(stateOf(), { state: "closed", calls: 0, failures: 0 });
  await clock.run(failureOf(call(unaryRequest(callOf({ breaker }), { signal: deadlineSignal(10) }))));
  assert.deepEqual(stateOf(), { state: "closed", calls: 1, failures: 1 });
});

test("a deadline that passes before there was a peer to send to does not count", async (t) => {
  const clock = fakeClock(t);
  const breakers = createBreakers({ now: clock.now });
  const call = breakers.interceptor(() => Promise.reject(new ConnectError("too late", Code.DeadlineExceeded)));
  await failureOf(call(unaryRequest(callOf({ breaker }))));
  assert.deepEqual(breakers.states().get(METHOD), { state: "closed", calls: 0, failures: 0 });
});

test("a probe with little time that runs out of it decides nothing: the next call is the probe", async (t) => {
  const { clock, call, stateOf } = setup(t, { with: Code.Internal }, { with: Code.Internal }, {}, { with: "ok" });
  for (let i = 0; i < 2; i++) await failureOf(call(unaryRequest(callOf({ breaker }))));
  await clock.advance(100);
  const short = unaryRequest(callOf({ breaker }, clock.now() + 50), { signal: deadlineSignal(50) });
  assert.equal((await clock.run(failureOf(call(short)))).code, Code.DeadlineExceeded);
  assert.equal(stateOf()?.state, "half_open");
  await clock.run(call(unaryRequest(callOf({ breaker }))));
  assert.equal(stateOf()?.state, "closed");
});

test("a probe that had its time and ran out of it opens the breaker again", async (t) => {
  const { clock, call, stateOf } = setup(t, { with: Code.Internal }, { with: Code.Internal }, {});
  for (let i = 0; i < 2; i++) await failureOf(call(unaryRequest(callOf({ breaker }))));
  await clock.advance(100);
  const long = unaryRequest(callOf({ breaker }, clock.now() + 4_950), { signal: deadlineSignal(4_950) });
  await clock.run(failureOf(call(long)));
  assert.equal(stateOf()?.state, "open");
});

async function* failing(code: Code) {
  yield* [];
  throw new ConnectError("failed", code);
}

async function* endless() {
  for (;;) yield await new Promise((resolve) => setTimeout(resolve, 1_000));
}

async function* items() {
  yield 1;
  throw new ConnectError("broken off", Code.Unavailable);
}

async function read(res: Awaited<ReturnType<ReturnType<typeof setup>["call"]>>): Promise<void> {
  assert.ok(res.stream);
  for await (const _ of res.message);
}

/** Sends nothing, and ends as its signal says. */
async function* quiet(signal: AbortSignal) {
  yield* [];
  await new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(ConnectError.from(signal.reason, Code.Canceled)));
  });
}

test("a stream is judged by what it answers first", async (t) => {
  const { clock, call, stateOf } = setup(
    t,
    { with: streamAnswer(failing(Code.Internal)) },
    { with: streamAnswer(items()) },
  );
  const open = () => call(streamRequest(callOf({ breaker }), endless()));
  await failureOf(read(await open()));
  assert.deepEqual(stateOf(STREAM), { state: "closed", calls: 1, failures: 1 });
  await failureOf(read(await open()));
  assert.deepEqual(stateOf(STREAM), { state: "closed", calls: 2, failures: 1 });
  await clock.advance(0);
});

for (const [what, end] of [
  ["its deadline passes", new ConnectError("the operation timed out", Code.DeadlineExceeded)],
  ["it is left", new DOMException("left", "AbortError")],
] as const) {
  for (const [how, isRead] of [
    ["while it is read", true],
    ["unread", false],
  ] as const) {
    test(`a stream that has answered with headers alone when ${what}, ${how}, has gone well`, async (t) => {
      const ending = new AbortController();
      const { clock, call, stateOf } = setup(t, { with: streamAnswer(quiet(ending.signal)) });
      const res = await call(streamRequest(callOf({ breaker }), endless(), { signal: ending.signal }));
      const reading = isRead ? failureOf(read(res)) : undefined;
      await clock.advance(0);
      assert.deepEqual(stateOf(STREAM), { state: "closed", calls: 0, failures: 0 });
      ending.abort(end);
      await reading;
      assert.deepEqual(stateOf(STREAM), { state: "closed", calls: 1, failures: 0 });
    });
  }
}

test("a stream whose deadline passes before its headers does not count", async (t) => {
  const { clock, call, stateOf } = setup(t, {});
  const request = streamRequest(callOf({ breaker }), endless(), { signal: deadlineSignal(10) });
  assert.equal((await clock.run(failureOf(call(request)))).code, Code.DeadlineExceeded);
  assert.deepEqual(stateOf(STREAM), { state: "closed", calls: 0, failures: 0 });
});

test("a peer whose answer says that its own deadline has passed is not unwell as far as a stream tells", async (t) => {
  const { call, stateOf } = setup(t, { with: streamAnswer(failing(Code.DeadlineExceeded)) });
  await failureOf(read(await call(streamRequest(callOf({ breaker }), endless()))));
  assert.deepEqual(stateOf(STREAM), { state: "closed", calls: 1, failures: 0 });
});

test("a quiet stream closes the breaker by its headers; what fails after them counts, once", async (t) => {
  const ending = new AbortController();
  const { clock, call, stateOf } = setup(
    t,
    { with: Code.Internal },
    { with: Code.Internal },
    { with: streamAnswer(quiet(ending.signal)) },
  );
  const open = () => call(streamRequest(callOf({ breaker }), endless(), { signal: ending.signal }));
  for (let i = 0; i < 2; i++) await failureOf(open());
  assert.equal(stateOf(STREAM)?.state, "open");
  await clock.advance(100);
  const probe = await open();
  assert.deepEqual(stateOf(STREAM), { state: "closed", calls: 0, failures: 0 });
  const reading = failureOf(read(probe));
  await clock.advance(0);
  ending.abort(new ConnectError("reset", Code.Unavailable));
  await reading;
  assert.deepEqual(stateOf(STREAM), { state: "closed", calls: 1, failures: 1 });
});

test("each method has a breaker of its own; calls without one pass straight through", async (t) => {
  const { clock, call, sends, stateOf } = setup(t, { with: Code.Internal });
  for (let i = 0; i < 2; i++) await failureOf(call(unaryRequest(callOf({ breaker }))));
  await failureOf(call(streamRequest(callOf({ breaker }), endless())));
  for (const one of [undefined, callOf({})]) {
    await failureOf(call(unaryRequest(one)));
  }
  assert.equal(sends.length, 5);
  assert.equal(stateOf()?.state, "open");
  assert.equal(stateOf(STREAM)?.state, "closed");
  assert.equal(clock.timers(), 0);
});

test("the log says when a method is not called any more, and when it is again", () => {
  const lines: Record<string, unknown>[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const logger = createLogger({ name: "user-service", config: { level: "debug", format: "json" }, destination });
  const log = logBreaker(logger, "book-service");
  log(METHOD, { state: "open", calls: 20, failures: 11, retryAtMs: performance.now() + 5_000 });
  log(METHOD, { state: "half_open", calls: 20, failures: 11, retryAtMs: performance.now() + 5_000 });
  log(METHOD, { state: "closed", calls: 0, failures: 0 });
  assert.deepEqual(
    lines.map(({ level, method, peer_service, failures }) => [level, method, peer_service, failures]),
    [
      ["warn", METHOD, "book-service", 11],
      ["debug", METHOD, "book-service", undefined],
      ["info", METHOD, "book-service", undefined],
    ],
  );
});

test("for random peers, deadlines and cancellations: it recovers by the first probe after the peer is well", async (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const clock = fakeClock(t);
    const { int, of, chance } = chooser(seededRandom(seed));
    const breakers = createBreakers({ now: clock.now });
    let isWell = false;
    let sent = 0;
    const call = breakers.interceptor((req) => {
      sent++;
      const faults: [Step, ...Step[]] = [
        { with: of(Code.Unavailable, Code.Internal, Code.NotFound), afterMs: int(0, 50) },
        {},
        { with: notProcessed(of("unreachable", "unsent", "refused"), "not sent"), afterMs: int(0, 50) },
        { with: "ok", afterMs: int(0, 50) },
      ];
      return scriptedPeer(clock, isWell ? { with: "ok" } : of(...faults)).next(req);
    });
    const one = () => {
      const ms = int(1, 200);
      const leaving = new AbortController();
      if (chance(0.2)) setTimeout(() => leaving.abort(), int(0, 60));
      const signal = AbortSignal.any([leaving.signal, deadlineSignal(ms)]);
      return call(unaryRequest(callOf({ breaker, timeoutMs: 200 }, clock.now() + ms), { signal })).catch(() => {});
    };
    const work: Promise<unknown>[] = [];
    for (let i = 0; i < 300; i++) {
      work.push(one());
      await clock.advance(int(0, 20));
    }
    await clock.run(Promise.all(work));
    isWell = true;
    const { retryAtMs = clock.now(), state } = breakers.states().get(METHOD)!;
    await clock.advance(Math.max(0, retryAtMs - clock.now()));
    const before = sent;
    await clock.run(call(unaryRequest(callOf({ breaker }))));
    assert.equal(sent, before + 1, `seed ${seed}`);
    assert.equal(breakers.states().get(METHOD)?.state, "closed", `seed ${seed}, from ${state}`);
    await clock.run(Promise.all(Array.from({ length: 20 }, () => call(unaryRequest(callOf({ breaker }))))));
    t.mock.restoreAll();
  }
});

test("a method that is never unwell is never refused", async (t) => {
  const clock = fakeClock(t);
  const { of } = chooser(seededRandom(7));
  const breakers = createBreakers({ now: clock.now });
  const call = breakers.interceptor(async () => {
    const code = of(undefined, Code.NotFound, Code.InvalidArgument, Code.Aborted, Code.Unauthenticated);
    if (code !== undefined) throw new ConnectError("an answer", code);
    return unaryAnswer();
  });
  for (let i = 0; i < 500; i++) {
    const error = await call(unaryRequest(callOf({ breaker }))).catch((reason: unknown) => reason);
    assert.notEqual(notProcessedKind(error), "rejected");
  }
});
