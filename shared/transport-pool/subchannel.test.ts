import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { createConnectBackoff } from "./connect-backoff.ts";
import type { Http2Connection, Http2ConnectionOptions } from "./http2-connection.ts";
import { createSubchannel, type SubchannelState } from "./subchannel.ts";
import { failureOf } from "./test-support.ts";

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

/** A subchannel on a fake clock, whose connections do what the test says. */
function start(t: TestContext) {
  let now = 0;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(performance, "now", () => now);
  const attempts: Http2ConnectionOptions[] = [];
  const states: SubchannelState[] = [];
  const subchannel = createSubchannel({
    name: "book-service",
    address: "localhost:9002",
    connectTimeoutMs: 20_000,
    backoff: createConnectBackoff(GRPC_DEFAULTS, () => 0.5),
    open: (options) => {
      attempts.push(options);
      const connection: Http2Connection = {
        request: () => undefined,
        openStreams: () => 0,
        close: () => {},
        destroy: () => {},
        closed: Promise.resolve(),
      };
      return connection;
    },
    onChange: (state) => states.push(state),
  });
  function tick(ms: number): void {
    now += ms;
    t.mock.timers.tick(ms);
  }
  const call = () => subchannel.request("POST", "/", {}, {});
  return { subchannel, attempts, states, tick, call };
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
  const { subchannel, attempts, tick } = start(t);
  subchannel.connect();
  attempts[0]?.onUnusable(new Error("refused"));
  tick(1_000);
  attempts[1]?.onReady();
  assert.equal(subchannel.state(), "ready");
  attempts[1]?.onUnusable(new Error("reset"));
  assert.equal(subchannel.state(), "idle");
  assert.equal(attempts.length, 2);
  subchannel.connect();
  attempts[2]?.onUnusable(new Error("refused"));
  tick(1_000);
  assert.equal(attempts.length, 4);
});

test("calls wait for the first attempt, and fail at once after a failed one until one succeeds", async (t) => {
  const { subchannel, attempts, tick, call, states } = start(t);
  const waiting = failureOf(call());
  assert.equal(subchannel.openCalls(), 1);
  attempts[0]?.onUnusable(new Error("refused"));
  assert.equal((await waiting).code, Code.Unavailable);
  assert.match((await failureOf(call())).message, /book-service at localhost:9002 .*refused/);
  tick(1_000);
  assert.match((await failureOf(call())).message, /refused/);
  attempts[1]?.onUnusable(new Error("still refused"));
  assert.match((await failureOf(call())).message, /still refused/);
  assert.deepEqual(states, ["connecting", "transient_failure", "transient_failure"]);
});

test("after close there are no attempts and no calls", async (t) => {
  const { subchannel, attempts, tick, call } = start(t);
  subchannel.connect();
  attempts[0]?.onUnusable(new Error("refused"));
  await subchannel.close(1_000);
  tick(10_000);
  assert.equal(attempts.length, 1);
  subchannel.connect();
  assert.equal(attempts.length, 1);
  assert.equal((await failureOf(call())).code, Code.Unavailable);
  assert.equal(subchannel.state(), "shutdown");
});
