import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { unsent, unsentKind } from "../policies/unsent.ts";
import { startTcpPeer, within } from "../test-support.ts";
import { Http1Connection } from "./http1-connection.ts";

const ANSWER = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/** A connection, the ends of its side and of its peer's, and a call that waits with others to be written. */
async function startWaitingCall(t: TestContext) {
  const accepted = Promise.withResolvers<Socket>();
  let received = 0;
  const address = await startTcpPeer(t, (peer) => {
    peer.on("data", (bytes) => {
      received += bytes.length;
    });
    accepted.resolve(peer);
  });
  const socket = connect(Number(address.split(":")[1]), "127.0.0.1");
  t.after(() => socket.destroy());
  await once(socket, "connect");
  const peer = await within(2_000, accepted.promise);
  let unusable = 0;
  const connection = new Http1Connection({
    host: address,
    idleTimeoutMs: 60_000,
    onFree() {},
    onUnusable() {
      unusable++;
    },
    notSent: (error) => unsent("unsent", error.message, error),
  });
  connection.attach(socket);
  socket.on("data", (bytes: Buffer) => connection.received(bytes));
  const call = Promise.withResolvers<void>();
  call.promise.catch(() => {});
  connection.send(
    {
      method: "POST",
      path: "/",
      headers: [],
      body: new Uint8Array(),
      onHeaders() {},
      onData() {},
      onTrailers() {},
      onEnd: call.resolve,
      onError: call.reject,
    },
    true,
  );
  return { connection, socket, peer, call: call.promise, received: () => received, unusable: () => unusable };
}

const isUnsent = (error: unknown) => unsentKind(error) === "unsent";

test("an answer that comes before its request is written is none, and the call is unsent", async (t) => {
  const { connection, socket, call, peer, received, unusable } = await startWaitingCall(t);
  connection.received(Buffer.from(ANSWER));
  await assert.rejects(within(2_000, call), isUnsent);
  assert.equal(unusable(), 1);
  assert.equal(socket.destroyed, true);
  await within(2_000, once(peer, "close"));
  assert.equal(received(), 0);
});

test("a call whose connection ends before its request is written is unsent", async (t) => {
  const { socket, call, unusable } = await startWaitingCall(t);
  socket.destroy();
  await assert.rejects(within(2_000, call), isUnsent);
  assert.equal(unusable(), 1);
});

test("a call whose connection is reset before its request is written is unsent", async (t) => {
  const { socket, call } = await startWaitingCall(t);
  socket.destroy(new Error("reset"));
  await assert.rejects(within(2_000, call), isUnsent);
});

test("a call that this side ends before its request is written ends for that reason", async (t) => {
  const { socket, call } = await startWaitingCall(t);
  socket.destroy(new ConnectError("closed", Code.Canceled));
  await assert.rejects(within(2_000, call), (error) => error instanceof ConnectError && error.code === Code.Canceled);
});

test("a request that has been written is answered, and is not unsent when its connection ends", async (t) => {
  const answered = await startWaitingCall(t);
  await nextTurn();
  answered.connection.received(Buffer.from(ANSWER));
  await within(2_000, answered.call);
  const lost = await startWaitingCall(t);
  await nextTurn();
  lost.socket.destroy();
  await assert.rejects(within(2_000, lost.call), (error) => error instanceof ConnectError && !isUnsent(error));
});
