import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { Code } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { EMPTY_SETTINGS, failureOf, startPeer, startPool, startTcpPeer, until, within } from "./test-support.ts";

test("close ends idle connections at once, and later calls fail with UNAVAILABLE", async (t) => {
  const peer = await startPeer(t, (router) => router.service(BookService, { getBook: () => ({}) }));
  const { pool, books } = startPool(t, { address: peer.address });
  await books.getBook({ id: "b1" });
  await within(900, pool.close());
  await until(() => peer.sessions.size === 0);
  assert.equal(pool.states()[0]?.state, "shutdown");
  assert.equal((await failureOf(books.getBook({ id: "b1" }))).code, Code.Unavailable);
  await within(900, pool.close());
});

test("close lets open calls finish", async (t) => {
  const answer = Promise.withResolvers<object>();
  const peer = await startPeer(t, (router) => router.service(BookService, { getBook: () => answer.promise }));
  const { pool, books } = startPool(t, { address: peer.address });
  const call = books.getBook({ id: "b1" });
  await until(() => pool.states()[0]?.state === "ready");
  let isClosed = false;
  const closing = pool.close().then(() => {
    isClosed = true;
  });
  assert.equal((await failureOf(books.getBook({ id: "b2" }))).code, Code.Unavailable);
  assert.equal(isClosed, false);
  answer.resolve({});
  await call;
  await within(2_000, closing);
});

test("open calls that do not finish within the bound are ended with CANCELED, here and at the peer", async (t) => {
  const signals: AbortSignal[] = [];
  const peer = await startPeer(t, (router) => {
    router.service(BookService, {
      getBook: (_, { signal }) => {
        signals.push(signal);
        return new Promise(() => {});
      },
    });
    router.service(OrderService, {
      async *watchOrder(_, { signal }) {
        signals.push(signal);
        yield {};
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    });
  });
  const { pool, books } = startPool(t, { address: peer.address }, { closeTimeoutMs: 50 });
  const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" })[Symbol.asyncIterator]();
  await stream.next();
  const unary = failureOf(books.getBook({ id: "b1" }, { timeoutMs: 0 }));
  const streaming = failureOf(stream.next());
  await until(() => signals.length === 2);
  await within(1_000, pool.close());
  assert.equal((await unary).code, Code.Canceled);
  assert.equal((await streaming).code, Code.Canceled);
  await until(() => signals.every(({ aborted }) => aborted));
});

test("close does not wait for a connection that is not there yet, and its calls end with UNAVAILABLE", async (t) => {
  const { pool, books } = startPool(t, { address: await startTcpPeer(t, () => {}) });
  const call = failureOf(books.getBook({ id: "b1" }));
  await within(900, pool.close());
  assert.equal((await call).code, Code.Unavailable);
});

test("close does not hang on an idle connection whose peer has fallen silent", async (t) => {
  // Speaks HTTP/2 as far as SETTINGS, and then neither reads nor closes.
  const address = await startTcpPeer(t, (socket) => {
    socket.write(EMPTY_SETTINGS);
    socket.pause();
  });
  const { pool } = startPool(t, { address });
  pool.connect();
  await until(() => pool.states()[0]?.state === "ready");
  await within(3_000, pool.close());
});

test("a process whose pool is idle, connected or in backoff, ends by itself", async (t) => {
  const peer = await startPeer(t, (router) => router.service(BookService, { getBook: () => ({}) }));
  const script = `
    import { createTransportPool, grpcClientsSection } from "#shared/transport-pool";
    import { createLogger } from "#shared/logging";
    import { BookService } from "#gen/book/v1/book_pb.ts";
    const services = [{ name: "book", address: "${peer.address}" }, { name: "down", address: "127.0.0.1:1" }];
    const logger = createLogger({ name: "test", config: { level: "silent", format: "json" } });
    const pool = createTransportPool(grpcClientsSection.parse({ services }), { logger, caller: "test" });
    pool.connect();
    await pool.client("book", BookService).getBook({ id: "b1" });
    await pool.client("down", BookService).getBook({ id: "b1" }).catch(() => {});
    console.log(pool.states().map(({ state }) => state).join());
  `;
  const args = ["--input-type=module-typescript", "--eval", script];
  const cwd = new URL("../..", import.meta.url);
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd, timeout: 10_000 });
  assert.equal(stdout.trim(), "ready,transient_failure");
});
