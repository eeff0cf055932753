import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { notProcessedKind } from "../../call/not-processed-error.ts";
import { failureOf } from "../../test-support.ts";
import { createConnectBackoff } from "../connect-backoff.ts";
import type { ClientExchange, ResponseSink } from "../exchange.ts";
import type { SubchannelState } from "../subchannel.ts";
import type { Http2Connection, Http2ConnectionOptions } from "./http2-connection.ts";
import { createHttp2Subchannel, type Http2SubchannelOptions } from "./http2-subchannel.ts";

const GRPC_DEFAULTS = { initialMs: 1_000, multiplier: 1.6, jitter: 0.2, maxMs: 120_000 };

test("the delays are gRPC's: 1 s, times 1.6, up to 120 s", () => {
  const backoff = createConnectBackoff(GRPC_DEFAULTS, () => 0.5);
  const delays = Array.from({ length: 13 }, () => Math.round(backoff.nextDelayMs()));
  assert.deepEqual(delays.slice(0, 5), [1_000, 1_600, 2_560, 4_096, 6_554]);
  assert.deepEqual(delays.slice(-3), [109_951, 120_000, 120_000]);
  backoff.reset();
  assert.equal(backoff.nextDelayMs(), 1_000);
});

test("each delay is spread by 20 % to either side", () => {
  assert.equal(createConnectBackoff(GRPC_DEFAULTS, () => 0).nextDelayMs(), 800);
  assert.ok(Math.abs(createConnectBackoff(GRPC_DEFAULTS, () => 0.999999).nextDelayMs() - 1_200) < 0.01);
});

const windows = { streamWindowBytes: 1 << 20, connectionWindowBytes: 1 << 22 };

/** A connection that does what the test says. */
function fakeConnection(): Http2Connection & { served: boolean; max: number; streams: number } {
  const connection = {
    served: false,
    max: Number.POSITIVE_INFINITY,
    streams: 0,
    open: () => {
      connection.streams++;
      return {} as ClientExchange;
    },
    openStreams: () => connection.streams,
    hasRoom: () => connection.streams < connection.max,
    wasUseful: () => connection.served,
    isResponsive: () => true,
    checkAlive: () => {},
    close: () => {},
    destroy: () => {},
    closed: new Promise<void>(() => {}),
  };
  return connection;
}

/** A subchannel on a fake clock. */
function start(t: TestContext, options: Partial<Http2SubchannelOptions> = {}) {
  let now = 0;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(performance, "now", () => now);
  const attempts: Http2ConnectionOptions[] = [];
  const connections: ReturnType<typeof fakeConnection>[] = [];
  const states: SubchannelState[] = [];
  const subchannel = createHttp2Subchannel({
    name: "book-service",
    address: "localhost:9002",
    connection: {
      authority: "localhost:9002",
      tls: undefined,
      connectTimeoutMs: 20_000,
      keepalive: { timeMs: 0, timeoutMs: 20_000, withoutCalls: false },
      ...windows,
    },
    backoff: createConnectBackoff(GRPC_DEFAULTS, () => 0.5),
    maxConnections: 2,
    idleTimeoutMs: 100_000,
    open: (options) => {
      attempts.push(options);
      const connection = fakeConnection();
      connections.push(connection);
      return connection;
    },
    onChange: (state) => states.push(state),
    ...options,
  });
  function tick(ms: number): void {
    now += ms;
    t.mock.timers.tick(ms);
  }
  const call = async (signal = new AbortController().signal) => {
    return await subchannel.open({ method: "POST", path: "/", headers: [] }, {} as ResponseSink, signal);
  };
  return { subchannel, attempts, connections, states, tick, call };
}

test("attempts follow each other by the backoff, counted from the start of each", (t) => {
  const { subchannel, attempts, tick } = start(t);
  subchannel.connect();
  assert.equal(attempts.length, 1);
  attempts[0]?.onUnusable(new Error("refused"));
  tick(999);
  assert.equal(attempts.length, 1);
  tick(1);
  assert.equal(attempts.length, 2);
  // This one takes a second of its 1.6 to fail.
  tick(1_000);
  attempts[1]?.onUnusable(new Error("refused"));
  tick(599);
  assert.equal(attempts.length, 2);
  tick(1);
  assert.equal(attempts.length, 3);
  // One that takes longer than its delay is followed at once.
  tick(20_000);
  attempts[2]?.onUnusable(new Error("timed out"));
  tick(0);
  assert.equal(attempts.length, 4);
});

test("a success starts the backoff from its beginning", (t) => {
  const { subchannel, attempts, connections, tick } = start(t);
  subchannel.connect();
  attempts[0]?.onUnusable(new Error("refused"));
  tick(1_000);
  attempts[1]?.onReady();
  assert.equal(subchannel.state(), "ready");
  connections[1]!.served = true;
  attempts[1]?.onUnusable(new Error("reset"));
  assert.equal(subchannel.state(), "idle");
  assert.equal(attempts.length, 2);
  subchannel.connect();
  attempts[2]?.onUnusable(new Error("refused"));
  tick(1_000);
  assert.equal(attempts.length, 4);
});

test("a connection that is closed as soon as it is made counts as an attempt that has failed", (t) => {
  const { subchannel, attempts, tick } = start(t);
  subchannel.connect();
  attempts[0]?.onReady();
  attempts[0]?.onUnusable(new Error("reset"));
  assert.equal(subchannel.state(), "transient_failure");
  tick(1_000);
  attempts[1]?.onReady();
  attempts[1]?.onUnusable(new Error("reset"));
  tick(1_599);
  assert.equal(attempts.length, 2);
  tick(1);
  assert.equal(attempts.length, 3);
  // One that has lived for a while is as good as one that has served.
  attempts[2]?.onReady();
  tick(1_000);
  attempts[2]?.onUnusable();
  assert.equal(subchannel.state(), "idle");
});

test("the first connection that ends in good order before it was of use is replaced at once, the next after the backoff", (t) => {
  const { subchannel, attempts, connections, tick } = start(t);
  const endNext = (served = false) => {
    subchannel.connect();
    attempts.at(-1)?.onReady();
    connections.at(-1)!.served = served;
    attempts.at(-1)?.onUnusable();
    return subchannel.state();
  };
  assert.equal(endNext(), "idle");
  assert.equal(endNext(), "transient_failure");
  tick(1_000);
  assert.equal(endNext(), "transient_failure");
  tick(1_600);
  // One that was of use makes up for them.
  assert.equal(endNext(true), "idle");
  assert.equal(endNext(), "idle");
  assert.equal(endNext(), "transient_failure");
});

test("a call without a connection is unsent", async (t) => {
  const { subchannel, attempts, call, states, tick } = start(t);
  assert.equal(notProcessedKind(await failureOf(call())), "unsent");
  subchannel.connect();
  attempts[0]?.onUnusable(new Error("refused"));
  const error = await failureOf(call());
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /book-service at localhost:9002 .*refused/);
  tick(1_000);
  attempts[1]?.onUnusable(new Error("still refused"));
  assert.deepEqual(states, ["connecting", "transient_failure", "transient_failure"]);
});

test("when a connection is full, one more is opened, and calls beyond wait in line", async (t) => {
  const { subchannel, attempts, connections, call } = start(t);
  subchannel.connect();
  attempts[0]?.onReady();
  connections[0]!.max = 1;
  await call();
  const order: number[] = [];
  const waiting = [1, 2, 3].map((n) => call().then(() => order.push(n)));
  assert.equal(attempts.length, 2);
  assert.equal(subchannel.openCalls(), 4);
  connections[1]!.max = 1;
  attempts[1]?.onReady();
  await waiting[0];
  assert.deepEqual(order, [1]);
  // Not more than there may be.
  assert.equal(attempts.length, 2);
  for (const [index, connection] of connections.entries()) {
    connection.streams--;
    attempts[index]?.onChange();
  }
  await Promise.all(waiting);
  assert.deepEqual(order, [1, 2, 3]);
});

test("a call that waits for room leaves when its signal fires, and the next in line gets the room", async (t) => {
  const { subchannel, attempts, connections, call } = start(t, { maxConnections: 1 });
  subchannel.connect();
  attempts[0]?.onReady();
  connections[0]!.max = 1;
  await call();
  const leaving = new AbortController();
  const first = failureOf(call(leaving.signal));
  const second = call();
  // The room is there, and whoever it was for leaves in the same turn.
  connections[0]!.streams--;
  attempts[0]?.onChange();
  leaving.abort(new ConnectError("left", Code.Canceled));
  assert.equal((await first).code, Code.Canceled);
  await second;
});

test("an idle connection is closed, extra ones sooner", async (t) => {
  const { subchannel, attempts, connections, states, call, tick } = start(t);
  const closed: number[] = [];
  subchannel.connect();
  attempts[0]?.onReady();
  connections[0]!.max = 1;
  await call();
  const extra = call();
  attempts[1]?.onReady();
  await extra;
  for (const [index, connection] of connections.entries()) {
    connection.close = () => {
      closed.push(index);
      attempts[index]?.onUnusable();
    };
    connection.streams = 0;
    attempts[index]?.onChange();
  }
  tick(59_999);
  assert.deepEqual(closed, []);
  tick(1);
  assert.deepEqual(closed, [1]);
  tick(40_000);
  assert.deepEqual(closed, [1, 0]);
  assert.equal(subchannel.state(), "idle");
  // This side has closed them: nothing has failed.
  assert.ok(!states.includes("transient_failure"));
  tick(200_000);
  assert.equal(attempts.length, 2);
});

test("while one more is on its way, the loss of the only connection makes no second chain of attempts", async (t) => {
  const { subchannel, attempts, connections, states, call, tick } = start(t);
  subchannel.connect();
  attempts[0]?.onReady();
  connections[0]!.max = 1;
  await call();
  const waiting = failureOf(call());
  assert.equal(attempts.length, 2);
  connections[0]!.streams = 0;
  attempts[0]?.onUnusable(new Error("GOAWAY"));
  assert.equal(subchannel.state(), "connecting");
  attempts[1]?.onUnusable(new Error("refused"));
  assert.equal(notProcessedKind(await waiting), "unsent");
  assert.equal(subchannel.state(), "transient_failure");
  tick(2_000);
  assert.equal(attempts.length, 3);
  attempts[2]?.onReady();
  tick(200_000);
  assert.equal(attempts.length, 3);
  void subchannel.close(1_000);
  attempts[2]?.onReady();
  assert.equal(states.at(-1), "shutdown");
});

test("keepalive's interval grows no further than a timer can wait", (t) => {
  const keepalive = { timeMs: 2 ** 30, timeoutMs: 20_000, withoutCalls: false };
  const connection = { authority: "a", tls: undefined, connectTimeoutMs: 1_000, keepalive, ...windows };
  const { subchannel, attempts, connections } = start(t, { connection });
  for (let i = 0; i < 3; i++) {
    subchannel.connect();
    attempts[i]?.onReady();
    connections[i]!.served = true;
    attempts[i]?.onTooManyPings();
    attempts[i]?.onUnusable(new Error("too_many_pings"));
  }
  subchannel.connect();
  assert.equal(attempts[3]?.keepalive.timeMs, 2 ** 31 - 1);
  assert.equal(attempts[3]?.keepalive.checkFactor, 8);
});

test("keepalive is asked for half as often after too_many_pings", (t) => {
  const keepalive = { timeMs: 60_000, timeoutMs: 20_000, withoutCalls: false };
  const connection = { authority: "a", tls: undefined, connectTimeoutMs: 1_000, keepalive, ...windows };
  const { subchannel, attempts, connections } = start(t, { connection });
  subchannel.connect();
  attempts[0]?.onReady();
  connections[0]!.served = true;
  attempts[0]?.onTooManyPings();
  attempts[0]?.onUnusable(new Error("too_many_pings"));
  subchannel.connect();
  assert.equal(attempts[0]?.keepalive.timeMs, 60_000);
  assert.equal(attempts[1]?.keepalive.timeMs, 120_000);
});

test("after close there are no attempts and no calls", async (t) => {
  const { subchannel, attempts, tick, call } = start(t);
  subchannel.connect();
  attempts[0]?.onUnusable(new Error("refused"));
  void subchannel.close(1_000);
  tick(10_000);
  assert.equal(attempts.length, 1);
  subchannel.connect();
  assert.equal(attempts.length, 1);
  assert.equal((await failureOf(call())).code, Code.Unavailable);
  assert.equal(subchannel.state(), "shutdown");
});
