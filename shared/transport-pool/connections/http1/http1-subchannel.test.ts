import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { notProcessedKind } from "../../call/not-processed-error.ts";
import { startTcpPeer, until, within } from "../../test-support.ts";
import { createConnectBackoff } from "../connect-backoff.ts";
import type { ResponseSink } from "../exchange.ts";
import type { Subchannel, SubchannelState } from "../subchannel.ts";
import { createHttp1Subchannel } from "./http1-subchannel.ts";

const RESPONSE = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

function open(t: TestContext, address: string, { initialMs = 10, onChange = (_state: SubchannelState) => {} } = {}) {
  const subchannel = createHttp1Subchannel({
    name: "book-service",
    address,
    authority: address,
    tls: undefined,
    connectTimeoutMs: 5_000,
    maxConnections: 1,
    backoff: createConnectBackoff({ initialMs, multiplier: 1, jitter: 0, maxMs: initialMs }, Math.random),
    idleTimeoutMs: 60_000,
    onChange,
  });
  t.after(() => subchannel.close(0));
  subchannel.connect();
  return subchannel;
}

const head = { method: "POST", path: "/", headers: [] };

/** Sends an empty request. */
async function send(subchannel: Subchannel, signal: AbortSignal = new AbortController().signal): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const sink: ResponseSink = {
    onHeaders() {},
    onData() {},
    onTrailers() {},
    onDrain() {},
    onEnd: () => resolve("ok"),
    onError: ({ kind, isProcessed }) => resolve(`${kind}${isProcessed ? "" : ", not processed"}`),
  };
  const exchange = await subchannel.open(head, sink, signal);
  exchange.end();
  return await within(5_000, promise);
}

test("a call that waits when the subchannel is closed is not processed", async (t) => {
  const subchannel = open(t, await startTcpPeer(t, () => {}));
  const first = send(subchannel);
  const second = send(subchannel);
  const closing = subchannel.close(100);
  await assert.rejects(within(2_000, second), (error) => notProcessedKind(error) === "unsent");
  assert.equal(await first, "connect, not processed");
  await within(2_000, closing);
  assert.equal(subchannel.openCalls(), 0);
});

test("no more calls are sent at a time than there may be connections, and each is sent in its turn", async (t) => {
  let sockets = 0;
  let most = 0;
  const address = await startTcpPeer(t, (socket) => {
    most = Math.max(most, ++sockets);
    socket.on("close", () => sockets--);
    socket.on("data", () => setTimeout(() => socket.write(RESPONSE), 5));
  });
  const subchannel = open(t, address);
  const calls = Array.from({ length: 5 }, () => send(subchannel));
  await until(() => subchannel.openCalls() === 5);
  assert.deepEqual(await Promise.all(calls), ["ok", "ok", "ok", "ok", "ok"]);
  assert.equal(most, 1);
  assert.equal(subchannel.openCalls(), 0);
});

test("a call that ends while it waits leaves its turn to the next one", async (t) => {
  const address = await startTcpPeer(t, (socket) => socket.on("data", () => socket.write(RESPONSE)));
  const subchannel = open(t, address);
  const leaving = new AbortController();
  const first = send(subchannel);
  const left = send(subchannel, leaving.signal);
  const last = send(subchannel);
  leaving.abort(new ConnectError("left", Code.Aborted));
  await assert.rejects(left, (error) => error instanceof ConnectError && error.code === Code.Aborted);
  assert.deepEqual(await Promise.all([first, last]), ["ok", "ok"]);
  assert.equal(subchannel.openCalls(), 0);
});

test("a peer that accepts connections and closes them is dialled with a backoff", async (t) => {
  let dials = 0;
  const address = await startTcpPeer(t, (socket) => {
    dials++;
    socket.once("data", () => socket.end());
  });
  const states: SubchannelState[] = [];
  const subchannel = open(t, address, { initialMs: 60_000, onChange: (state) => states.push(state) });
  assert.equal(await send(subchannel), "disconnected");
  await until(() => subchannel.state() === "transient_failure");
  assert.equal(dials, 1);
  assert.match(subchannel.lastError()?.message ?? "", /closed/);
  assert.deepEqual(states, ["ready", "transient_failure"]);
});

test("what becomes of calls later does not run in the context of the one that opened the connection", async (t) => {
  const address = await startTcpPeer(t, (socket) => socket.on("data", () => socket.write(RESPONSE)));
  const subchannel = open(t, address);
  const storage = new AsyncLocalStorage<number>();
  const seen: unknown[] = [];
  const sink = {
    onHeaders() {},
    onData() {},
    onTrailers() {},
    onDrain() {},
    onError: ({ kind }: { kind: string }) => assert.fail(kind),
  };
  for (const call of [1, 2]) {
    await storage.run(call, async () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      const onEnd = () => {
        seen.push(storage.getStore());
        resolve();
      };
      const exchange = await subchannel.open(head, { ...sink, onEnd }, new AbortController().signal);
      exchange.end();
      await within(2_000, promise);
    });
  }
  assert.deepEqual(seen, [undefined, undefined]);
});

test("a response that comes before the request is read arrives, though the connection breaks", async (t) => {
  const body = "too large";
  const response = `HTTP/1.1 413 Payload Too Large\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  const address = await startTcpPeer(t, (socket) => {
    socket.once("data", () => {
      socket.pause();
      // Bytes that are not read make the kernel reset the connection.
      socket.write(response, () => socket.destroy());
    });
  });
  for (let i = 0; i < 5; i++) {
    const subchannel = open(t, address);
    const seen: string[] = [];
    const { promise, resolve } = Promise.withResolvers<string>();
    const sink: ResponseSink = {
      onHeaders: (headers) => seen.push(String(headers[":status"])),
      onData: (chunk) => seen.push(chunk.toString()),
      onTrailers() {},
      onDrain() {},
      onEnd: () => resolve("ok"),
      onError: ({ kind, cause }) => resolve(`${kind} ${cause}`),
    };
    const exchange = await subchannel.open(head, sink, new AbortController().signal);
    exchange.end(Buffer.alloc(32 << 20));
    assert.equal(await within(5_000, promise), "ok");
    assert.deepEqual(seen, ["413", body]);
  }
});
