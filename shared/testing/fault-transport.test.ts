import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { Code, ConnectError, createClient, createRouterTransport, type Transport } from "@connectrpc/connect";
import { EchoService } from "./echo-service.ts";
import { type Fault, faultTransport } from "./fault-transport.ts";
import { echo } from "./server.ts";
import { until, within } from "./waiting.ts";

/** A clock that only the test moves. */
interface Clock {
  now(): number;
  advance(ms: number): Promise<void>;
}

function fakeClock(t: TestContext): Clock {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  return {
    now: () => now,
    async advance(ms) {
      // What was begun has to have come to its timer.
      await setImmediate();
      now += ms;
      t.mock.timers.tick(ms);
      await setImmediate();
    },
  };
}

/** The echo behind faults, and the timeouts of the calls that came through to it. */
function behind(faults: readonly Fault[], options: { random?: () => number; now?: () => number } = {}) {
  const timeouts: (number | undefined)[] = [];
  const stock = createRouterTransport((router) => router.service(EchoService, echo));
  const inner: Transport = {
    unary(method, signal, timeoutMs, ...rest) {
      timeouts.push(timeoutMs);
      return stock.unary(method, signal, timeoutMs, ...rest);
    },
    stream(method, signal, timeoutMs, ...rest) {
      timeouts.push(timeoutMs);
      return stock.stream(method, signal, timeoutMs, ...rest);
    },
  };
  return { client: createClient(EchoService, faultTransport(inner, { faults, ...options })), timeouts };
}

function failsWith(code: Code): (error: unknown) => boolean {
  return (error) => error instanceof ConnectError && error.code === code;
}

async function lettersOf(messages: AsyncIterable<{ value: string }>, read: string[]): Promise<void> {
  for await (const { value } of messages) read.push(value);
}

/** Where the clock stands still, `until` would wait for ever. */
async function turnsUntil(isSo: () => boolean): Promise<void> {
  for (let turn = 0; turn < 10_000 && !isSo(); turn++) await setImmediate();
  // Whatever else was about to come comes now.
  for (let turn = 0; turn < 20; turn++) await setImmediate();
}

test("without a fault calls go through as they are", async () => {
  const { client, timeouts } = behind([]);
  assert.equal((await client.echo({ value: "hello" }, { timeoutMs: 60_000 })).value, "hello");
  const read: string[] = [];
  await lettersOf(client.expand({ value: "abc" }), read);
  assert.deepEqual(read, ["a", "b", "c"]);
  assert.deepEqual(timeouts, [60_000, undefined]);
});

test("a share of the calls fails with the code, and is not sent", async () => {
  const draws = [0.1, 0.3, 0.29, 0.9];
  const { client, timeouts } = behind([{ share: 0.3, code: Code.Unavailable }], { random: () => draws.shift() ?? 0 });
  await assert.rejects(client.echo({}), failsWith(Code.Unavailable));
  await client.echo({});
  await assert.rejects(client.echo({}), failsWith(Code.Unavailable));
  await client.echo({});
  assert.equal(timeouts.length, 2);
});

test("a share of 0 strikes no call and one of 1 every call", async () => {
  for (const drawn of [0, 1 - Number.EPSILON]) {
    const random = () => drawn;
    await behind([{ share: 0, code: Code.Internal }], { random }).client.echo({});
    await assert.rejects(
      behind([{ share: 1, code: Code.Internal }], { random }).client.echo({}),
      failsWith(Code.Internal),
    );
  }
});

test("a fault can be that of one service or one method", async () => {
  const { client } = behind([
    { service: "testing.v1.EchoService", method: "testing.v1.EchoService/Read", share: 1, code: Code.Aborted },
    { service: "testing.v1.OtherService", share: 1, code: Code.Internal },
    { method: "testing.v1.OtherService/Echo", share: 1, code: Code.Internal },
  ]);
  await assert.rejects(client.read({}), failsWith(Code.Aborted));
  await client.echo({});
  const all = behind([{ service: "testing.v1.EchoService", share: 1, code: Code.Aborted }]);
  await assert.rejects(all.client.echo({}), failsWith(Code.Aborted));
  await assert.rejects(all.client.collect((async function* () {})()), failsWith(Code.Aborted));
});

test("a delayed call is sent later, with the time that it has left", async (t) => {
  const clock = fakeClock(t);
  const { client, timeouts } = behind([{ share: 1, delayMs: 400 }], { now: clock.now });
  const call = client.echo({ value: "late" }, { timeoutMs: 1_000 });
  await clock.advance(399);
  assert.deepEqual(timeouts, []);
  await clock.advance(1);
  assert.deepEqual(timeouts, [600]);
  assert.equal((await within(call)).value, "late");
});

test("a delay ends with the deadline", async (t) => {
  const clock = fakeClock(t);
  const { client, timeouts } = behind([{ share: 1, delayMs: 400 }], { now: clock.now });
  const call = client.echo({}, { timeoutMs: 300 });
  const refused = assert.rejects(call, failsWith(Code.DeadlineExceeded));
  await clock.advance(300);
  await refused;
  assert.deepEqual(timeouts, []);
});

test("a timeout of 0 is none", async (t) => {
  const clock = fakeClock(t);
  const { client, timeouts } = behind([{ share: 1, delayMs: 400 }], { now: clock.now });
  const call = client.echo({}, { timeoutMs: 0 });
  await clock.advance(400);
  await call;
  assert.deepEqual(timeouts, [0]);
});

test("several faults of one call come one after the other", async (t) => {
  const clock = fakeClock(t);
  const faults = [
    { share: 1, delayMs: 100 },
    { share: 1, delayMs: 50, code: Code.ResourceExhausted },
  ];
  const { client } = behind(faults, { now: clock.now });
  let failed = false;
  const refused = assert.rejects(client.echo({}), failsWith(Code.ResourceExhausted)).then(() => {
    failed = true;
  });
  await clock.advance(100);
  await clock.advance(49);
  assert.equal(failed, false);
  await clock.advance(1);
  await refused;
});

test("a dropped call is not answered before its deadline", async (t) => {
  const clock = fakeClock(t);
  const { client, timeouts } = behind([{ share: 1, drop: true }], { now: clock.now });
  let failed = false;
  const refused = assert.rejects(client.echo({}, { timeoutMs: 5_000 }), failsWith(Code.DeadlineExceeded)).then(() => {
    failed = true;
  });
  await clock.advance(4_999);
  assert.equal(failed, false);
  await clock.advance(1);
  await refused;
  assert.deepEqual(timeouts, []);
});

test("what waits ends with the signal, and leaves no timer and no listener", async () => {
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
  for (const fault of [{ drop: true }, { delayMs: 60_000 }]) {
    const before = timers();
    const { client } = behind([{ share: 1, ...fault }]);
    const controller = new AbortController();
    const { signal } = controller;
    const unary = client.echo({}, { signal, timeoutMs: 60_000 });
    const stream = client.collect((async function* () {})(), { signal });
    const refused = Promise.all([unary, stream].map((call) => assert.rejects(call, failsWith(Code.Canceled))));
    await until("the calls to wait", () => getEventListeners(signal, "abort").length === 2);
    assert.ok(timers() > before);
    controller.abort();
    await refused;
    assert.equal(getEventListeners(signal, "abort").length, 0);
    assert.equal(timers(), before);
    await assert.rejects(client.echo({}, { signal }), failsWith(Code.Canceled));
  }
});

test("a stream can fail before its answer", async () => {
  const { client, timeouts } = behind([{ share: 1, code: Code.Unavailable }]);
  const read: string[] = [];
  await assert.rejects(lettersOf(client.expand({ value: "abc" }), read), failsWith(Code.Unavailable));
  assert.deepEqual([read, timeouts], [[], []]);
});

test("a stream can fail after some messages, and its peer learns of it", async () => {
  let ended: AbortSignal | undefined;
  const inner = createRouterTransport((router) =>
    router.service(EchoService, {
      async *expand(_, { signal }) {
        ended = signal;
        for (let letter = 0; ; letter++) yield { value: String(letter) };
      },
    }),
  );
  const faults = [{ share: 1, afterMessages: 2, code: Code.Unavailable }];
  const client = createClient(EchoService, faultTransport(inner, { faults }));
  const read: string[] = [];
  await assert.rejects(within(lettersOf(client.expand({}), read)), failsWith(Code.Unavailable));
  assert.deepEqual(read, ["0", "1"]);
  await until("the peer to learn of it", () => ended?.aborted === true);
});

test("a stream can halt after some messages, for a while or until its deadline", async (t) => {
  const clock = fakeClock(t);
  const slow = behind([{ share: 1, afterMessages: 1, delayMs: 500 }], { now: clock.now });
  const read: string[] = [];
  const whole = lettersOf(slow.client.expand({ value: "abc" }), read);
  await turnsUntil(() => read.length === 1);
  assert.deepEqual(read, ["a"]);
  await clock.advance(500);
  await within(whole);
  assert.deepEqual(read, ["a", "b", "c"]);

  const silent = behind([{ share: 1, afterMessages: 2, drop: true }], { now: clock.now });
  const heard: string[] = [];
  const part = lettersOf(silent.client.expand({ value: "abc" }, { timeoutMs: 1_000 }), heard);
  const refused = assert.rejects(part, failsWith(Code.DeadlineExceeded));
  await turnsUntil(() => heard.length === 2);
  await clock.advance(1_000);
  await refused;
  assert.deepEqual(heard, ["a", "b"]);
});

test("a fault after some messages strikes neither unary calls nor shorter streams", async () => {
  const { client } = behind([{ share: 1, afterMessages: 4, code: Code.Internal }]);
  await client.echo({});
  const read: string[] = [];
  await lettersOf(client.expand({ value: "abc" }), read);
  assert.deepEqual(read, ["a", "b", "c"]);
});

test("a fault that cannot be is refused", () => {
  const wrong: Fault[] = [
    { share: 1.5, drop: true },
    { share: -0.1, drop: true },
    { share: Number.NaN, drop: true },
    { share: 1 },
    { share: 1, drop: false },
    { share: 1, drop: true, code: Code.Internal },
    { share: 1, drop: true, afterMessages: -1 },
    { share: 1, drop: true, afterMessages: 0.5 },
  ];
  for (const fault of wrong) assert.throws(() => behind([fault]), TypeError, JSON.stringify(fault));
});
