import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { unsentKind } from "../policies/unsent.ts";
import { startTcpPeer, until, within } from "../test-support.ts";
import { createConnectBackoff } from "./connect-backoff.ts";
import { createHttp1Subchannel } from "./http1-subchannel.ts";
import type { UnaryExchange } from "./unary-stream.ts";

const ANSWER = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

function open(t: TestContext, address: string) {
  const subchannel = createHttp1Subchannel({
    name: "book-service",
    address,
    authority: address,
    tls: undefined,
    connectTimeoutMs: 5_000,
    backoff: createConnectBackoff({ initialMs: 10, multiplier: 1, jitter: 0, maxMs: 10 }, Math.random),
    idleTimeoutMs: 60_000,
    onChange: () => {},
  });
  t.after(() => subchannel.close(0));
  subchannel.connect();
  return subchannel;
}

function exchangeWith(onEnd: () => void, onError: (reason: unknown) => void): UnaryExchange {
  const rest = { onHeaders() {}, onData() {}, onTrailers() {} };
  return { method: "POST", path: "/", headers: [], body: new Uint8Array(), onEnd, onError, ...rest };
}

test("a call that waits for its connection when the subchannel is closed is unsent at once", async (t) => {
  const subchannel = open(t, await startTcpPeer(t, () => {}));
  const sending = subchannel.send(
    exchangeWith(
      () => {},
      () => {},
    ),
    new AbortController().signal,
  );
  const closing = subchannel.close(5_000);
  await assert.rejects(within(2_000, Promise.resolve(sending)), (error) => unsentKind(error) === "unsent");
  await within(2_000, closing);
  assert.equal(subchannel.openCalls(), 0);
});

test("a call that ends while it waits leaves its connection to the next one", async (t) => {
  let connections = 0;
  const address = await startTcpPeer(t, (socket) => {
    connections++;
    socket.on("data", () => socket.write(ANSWER));
  });
  const subchannel = open(t, address);
  const leaving = new AbortController();
  const left = subchannel.send(
    exchangeWith(
      () => {},
      () => {},
    ),
    leaving.signal,
  );
  leaving.abort(new ConnectError("left", Code.Aborted));
  await assert.rejects(Promise.resolve(left), (error) => error instanceof ConnectError && error.code === Code.Aborted);
  assert.equal(subchannel.openCalls(), 0);
  await until(() => connections === 1);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  await subchannel.send(exchangeWith(resolve, reject), new AbortController().signal);
  await within(2_000, promise);
  assert.equal(connections, 1);
});

test("calls that are sent in one turn do not see each other's context, nor do what comes of them later", async (t) => {
  const address = await startTcpPeer(t, (socket) => socket.on("data", () => socket.write(ANSWER)));
  const subchannel = open(t, address);
  const storage = new AsyncLocalStorage<number>();
  const seen = await Promise.all(
    [1, 2, 3].map((call) =>
      storage.run(call, async () => {
        const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
        const exchange = exchangeWith(() => resolve(storage.getStore()), reject);
        await subchannel.send(exchange, new AbortController().signal);
        return await within(2_000, promise);
      }),
    ),
  );
  assert.deepEqual(seen, [undefined, undefined, undefined]);
});
