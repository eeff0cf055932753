import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { notProcessed, notProcessedKind } from "../call/not-processed-error.ts";
import {
  callOf,
  failureOf,
  fakeClock,
  type Step,
  scriptedPeer,
  streamAnswer,
  streamRequest,
  unaryRequest,
} from "./retry/test-support.ts";
import { transparentRetryInterceptor } from "./transparent-retry.ts";

const lost = notProcessed("unsent", "the connection has gone");
const refused = notProcessed("refused", "REFUSED_STREAM");

function setup(t: TestContext, ...script: [Step, ...Step[]]) {
  const clock = fakeClock(t);
  const peer = scriptedPeer(clock, ...script);
  return { clock, call: transparentRetryInterceptor({ now: clock.now })(peer.next), ...peer };
}

test("a call that never left is sent again, at once and then with growing pauses, and counts as one attempt", async (t) => {
  const { clock, call, sends, times } = setup(
    t,
    { with: lost },
    { with: lost },
    { with: lost },
    { with: lost },
    { with: "ok" },
  );
  const out = callOf({});
  await clock.run(call(unaryRequest(out)));
  assert.deepEqual(times(), [1_000, 1_000, 1_005, 1_015, 1_035]);
  assert.equal(out.attempts, 1);
  assert.equal(sends.at(-1)?.header.has("grpc-previous-rpc-attempts"), false);
});

test("it is not sent for ever", async (t) => {
  const { clock, call, sends } = setup(t, { with: lost });
  assert.equal(notProcessedKind(await clock.run(failureOf(call(unaryRequest(callOf({})))))), "unsent");
  assert.equal(sends.length, 10);
});

test("it is sent again until its deadline, and tells how much is left", async (t) => {
  const { clock, call, times, sends } = setup(t, { with: lost, afterMs: 30 });
  const req = unaryRequest(callOf({}, 1_110), { header: { "grpc-timeout": "110m" } });
  const error = await clock.run(failureOf(call(req)));
  assert.equal(notProcessedKind(error), "unsent");
  assert.deepEqual(times(), [1_000, 1_030, 1_065, 1_105]);
  assert.deepEqual(
    sends.map(({ header }) => header.get("grpc-timeout")),
    ["110m", "80m", "45m", "5m"],
  );
});

test("a pause ends with the call", async (t) => {
  const { call } = setup(t, { with: lost });
  t.mock.restoreAll();
  const error = await failureOf(call(unaryRequest(callOf({}), { signal: AbortSignal.timeout(5) })));
  assert.equal(notProcessedKind(error), "unsent");
});

test("a call that its peer refuses is sent again once, over all of its attempts", async (t) => {
  const { clock, call, sends } = setup(t, { with: refused });
  const out = callOf({});
  assert.equal(notProcessedKind(await clock.run(failureOf(call(unaryRequest(out))))), "refused");
  assert.equal(sends.length, 2);
  assert.equal(notProcessedKind(await clock.run(failureOf(call(unaryRequest(out))))), "refused");
  assert.equal(sends.length, 3);
  assert.equal(out.attempts, 2);
});

test("one that was refused may still be sent again when it does not leave", async (t) => {
  const { clock, call, sends } = setup(t, { with: refused }, { with: lost }, { with: lost }, { with: "ok" });
  await clock.run(call(unaryRequest(callOf({}))));
  assert.equal(sends.length, 4);
});

test("other failures are not sent again, and neither is a call that has ended", async (t) => {
  for (const failure of [
    Code.Unavailable,
    notProcessed("unreachable", "no connection"),
    notProcessed("rejected", "breaker"),
  ] as const) {
    const { clock, call, sends } = setup(t, { with: failure });
    assert.equal((await clock.run(failureOf(call(unaryRequest(callOf({})))))).code, Code.Unavailable);
    assert.equal(sends.length, 1);
    t.mock.restoreAll();
  }
  const leaving = new AbortController();
  const { clock, call, sends } = setup(t, { with: lost, afterMs: 10 });
  setTimeout(() => leaving.abort(), 5);
  await clock.run(failureOf(call(unaryRequest(callOf({}), { signal: leaving.signal }))));
  assert.equal(sends.length, 1);
});

test("a call without a policy is sent once", async (t) => {
  const { clock, call, sends } = setup(t, { with: lost });
  await clock.run(failureOf(call(unaryRequest(undefined))));
  assert.equal(sends.length, 1);
});

async function* messages() {
  yield "a";
  yield "b";
  yield "c";
}

/** Takes `take` messages of each sending that fails, and all of the last. */
function taker(failures: number, take: number) {
  const sends: unknown[][] = [];
  const call = transparentRetryInterceptor()(async (req) => {
    assert.ok(req.stream);
    const taken: unknown[] = [];
    const isLast = sends.push(taken) > failures;
    const iterator = req.message[Symbol.asyncIterator]();
    for (let i = 0; isLast || i < take; i++) {
      const result = await iterator.next();
      if (result.done === true) break;
      taken.push(result.value);
    }
    if (!isLast) throw lost;
    return streamAnswer(messages());
  });
  return { sends, call };
}

test("a stream is sent again from its first message", async () => {
  for (const take of [0, 1, 2]) {
    const { sends, call } = taker(2, take);
    await call(streamRequest(callOf({}), messages()));
    assert.deepEqual(sends.at(-1), ["a", "b", "c"]);
  }
});

test("a stream of which more was taken than is kept is not sent again", async () => {
  const { sends, call } = taker(1, 3);
  await failureOf(call(streamRequest(callOf({}), messages())));
  assert.equal(sends.length, 1);
});

test("a message that an abandoned sending still waits for goes to the next one, and it gets no more", async () => {
  const first = Promise.withResolvers<string>();
  async function* slow() {
    yield await first.promise;
    yield "b";
    yield "c";
  }
  const seen: unknown[] = [];
  const iterators: AsyncIterator<unknown>[] = [];
  const call = transparentRetryInterceptor()(async (req) => {
    assert.ok(req.stream);
    const iterator = req.message[Symbol.asyncIterator]();
    if (iterators.push(iterator) === 1) {
      void iterator.next();
      throw lost;
    }
    first.resolve("a");
    assert.deepEqual(await iterators[0]?.next(), { done: true, value: undefined });
    for (let result = await iterator.next(); result.done !== true; result = await iterator.next()) {
      seen.push(result.value);
    }
    return streamAnswer(messages());
  });
  await call(streamRequest(callOf({}), slow()));
  assert.deepEqual(seen, ["a", "b", "c"]);
});
