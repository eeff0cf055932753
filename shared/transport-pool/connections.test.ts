import assert from "node:assert/strict";
import { once } from "node:events";
import * as http2 from "node:http2";
import type { Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as delay, setImmediate as immediate } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import {
  EMPTY_SETTINGS,
  failureOf,
  freePort,
  type Peer,
  type Routes,
  startHttp1Peer,
  startPeer,
  startPool,
  startStoppedPeer,
  startTcpPeer,
  until,
  within,
} from "./test-support.ts";

const FAST_BACKOFF = { initial: "5ms", max: "20ms" };

const routes: Routes = (router) => {
  router.service(BookService, {
    getBook: () => ({ book: { id: "b1" } }),
    listBooks: async () => {
      await delay(2);
      return {};
    },
  });
  router.service(OrderService, {
    async *watchOrder({ id }, { signal }) {
      yield { order: { id } };
      await once(signal, "abort");
    },
  });
};

test("a service that is down at the start is named in one warning, and used as soon as it is up", async (t) => {
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const { pool, books, lines } = startPool(t, { address, connect_backoff: FAST_BACKOFF });
  pool.connect();
  assert.equal(pool.states()[0]?.state, "connecting");
  await until(() => lines.filter(({ msg }) => msg.includes("still down")).length >= 2);
  const warnings = lines.filter(({ level }) => level === "warn");
  assert.equal(warnings.length, 1);
  assert.equal(warnings[0]?.peer_service, "book-service");
  assert.equal(warnings[0]?.peer, address);
  assert.match(pool.states()[0]?.lastError ?? "", /ECONNREFUSED/);

  await startPeer(t, routes, { port });
  await until(() => pool.states()[0]?.state === "ready");
  assert.equal((await books.getBook({ id: "b1" })).book?.id, "b1");
  assert.equal(pool.states()[0]?.lastError, undefined);
  assert.ok(lines.some(({ msg, level }) => level === "info" && msg.includes("is back")));
});

test("in backoff a call fails at once with UNAVAILABLE and the error of the last attempt", async (t) => {
  const { books, pool } = startPool(t, { address: `127.0.0.1:${await freePort()}` });
  await failureOf(books.getBook({ id: "b1" }));
  assert.equal(pool.states()[0]?.state, "transient_failure");
  // No attempt is made for it: the next is up to a second away, and the call does not wait.
  const error = await failureOf(books.getBook({ id: "b1" }));
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /ECONNREFUSED/);
  assert.equal(pool.states()[0]?.state, "transient_failure");
});

test("a service that restarts is used again without anyone's doing", async (t) => {
  const peer = await startPeer(t, routes);
  const { books, pool } = startPool(t, { address: peer.address, connect_backoff: FAST_BACKOFF });
  await books.getBook({ id: "b1" });
  for (let i = 0; i < 3; i++) {
    await peer.kill();
    await until(() => pool.states()[0]?.state !== "ready");
    assert.equal((await failureOf(books.getBook({ id: "b1" }))).code, Code.Unavailable);
    const again = await startPeer(t, routes, { port: peer.port });
    await until(() => pool.states()[0]?.state === "ready");
    assert.equal((await books.getBook({ id: "b1" })).book?.id, "b1");
    await again.kill();
  }
});

for (const protocol of ["grpc", "connect", "grpc-web"]) {
  for (const [how, end] of [
    ["is killed", (peer) => peer.kill()],
    // Resets every stream with NO_ERROR, which looks like an end in good order.
    ["destroys the session", (peer) => peer.sessions.forEach((session) => void session.destroy())],
  ] satisfies [string, (peer: Peer) => unknown][]) {
    test(`${protocol}: calls that are open when their peer ${how} fail with UNAVAILABLE, streams too`, async (t) => {
      const peer = await startPeer(t, (router) => {
        router.service(BookService, { getBook: () => new Promise(() => {}) });
        router.service(OrderService, {
          async *watchOrder({ id }) {
            yield { order: { id } };
            await new Promise(() => {});
          },
        });
      });
      const { books, pool } = startPool(t, { address: peer.address, protocol });
      const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" })[Symbol.asyncIterator]();
      assert.equal((await stream.next()).value?.order?.id, "o1");
      const failures = Promise.all([
        ...Array.from({ length: 20 }, () => failureOf(books.getBook({ id: "b1" }))),
        failureOf(stream.next()),
      ]);
      await until(() => pool.states()[0]?.openCalls === 21);
      // The peer has them too: frames keep their order.
      await new Promise((resolve) => [...peer.sessions][0]?.ping(resolve));
      await end(peer);
      for (const error of await within(2_000, failures)) assert.equal(error.code, Code.Unavailable);
    });
  }
}

test("a peer that closes an idle connection by GOAWAY gets the next call on a new one (#1768)", async (t) => {
  const peer = await startPeer(t, routes);
  const { books, pool } = startPool(t, { address: peer.address });
  for (let i = 1; i <= 5; i++) {
    await books.getBook({ id: "b1" });
    assert.equal(peer.sessionCount(), i);
    for (const session of peer.sessions) session.goaway(0);
    await until(() => pool.states()[0]?.state === "idle");
  }
});

test("a connection without calls is closed after idle_timeout, and the next call makes a new one", async (t) => {
  const peer = await startPeer(t, routes);
  const { books, pool, lines } = startPool(t, { address: peer.address, idle_timeout: "60ms" });
  for (let i = 1; i <= 3; i++) {
    await books.getBook({ id: "b1" });
    await until(() => peer.sessions.size === 0 && pool.states()[0]?.state === "idle");
    assert.equal(peer.sessionCount(), i);
  }
  assert.deepEqual(
    lines.filter(({ level }) => level === "warn"),
    [],
  );
});

test("a call that comes just when the GOAWAY does is not lost", async (t) => {
  const peer = await startPeer(t, routes);
  const { books } = startPool(t, { address: peer.address });
  await books.getBook({ id: "b1" });
  for (let i = 0; i < 50; i++) {
    for (const session of peer.sessions) session.close();
    await within(2_000, books.getBook({ id: "b1" }));
  }
});

test("after a GOAWAY open streams go on, and the next call uses a new connection", async (t) => {
  const finish = Promise.withResolvers<void>();
  const peer = await startPeer(t, (router) => {
    router.service(OrderService, {
      async *watchOrder() {
        yield { order: { id: "first" } };
        await finish.promise;
        yield { order: { id: "last" } };
      },
    });
    router.service(BookService, { getBook: () => ({ book: { id: "b1" } }) });
  });
  const { books, pool } = startPool(t, { address: peer.address });
  const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" })[Symbol.asyncIterator]();
  assert.equal((await stream.next()).value?.order?.id, "first");
  for (const session of peer.sessions) session.goaway(0, 2 ** 31 - 1);
  await until(() => pool.states()[0]?.state === "idle");
  await books.getBook({ id: "b1" });
  assert.equal(peer.sessions.size, 2);
  finish.resolve();
  assert.equal((await stream.next()).value?.order?.id, "last");
  assert.equal((await stream.next()).done, true);
  await until(() => peer.sessions.size === 1);
});

test("calls that find no room on a connection go to one more, up to max_connections, and wait beyond", async (t) => {
  const release = Promise.withResolvers<void>();
  const peer = await startPeer(
    t,
    (router) => router.service(BookService, { listBooks: () => release.promise.then(() => ({})) }),
    { settings: { maxConcurrentStreams: 2 } },
  );
  const { books, pool } = startPool(t, { address: peer.address, max_connections: 3 });
  const calls = Array.from({ length: 10 }, () => books.listBooks({}));
  await until(() => peer.sessions.size === 3);
  assert.equal(pool.states()[0]?.openCalls, 10);
  release.resolve();
  await within(2_000, Promise.all(calls));
  assert.equal(peer.sessionCount(), 3);
});

test("calls that wait for room on a connection go to the next one when it is closed", async (t) => {
  const release = Promise.withResolvers<void>();
  const peer = await startPeer(
    t,
    (router) => {
      router.service(BookService, {
        listBooks: () => release.promise.then(() => ({})),
        getBook: () => ({ book: { id: "b1" } }),
      });
    },
    { settings: { maxConcurrentStreams: 1 } },
  );
  const { books, pool } = startPool(t, { address: peer.address, max_connections: 1 });
  const first = books.listBooks({});
  await until(() => pool.states()[0]?.openCalls === 1 && peer.sessions.size === 1);
  const waiting = Array.from({ length: 10 }, () => books.getBook({ id: "b1" }));
  await until(() => pool.states()[0]?.openCalls === 11);
  await new Promise((resolve) => [...peer.sessions][0]?.ping(resolve));
  for (const session of peer.sessions) session.close();
  for (const { book } of await within(2_000, Promise.all(waiting))) assert.equal(book?.id, "b1");
  assert.equal(peer.sessionCount(), 2);
  release.resolve();
  await first;
});

const RESETS = {
  NGHTTP2_NO_ERROR: Code.Unavailable,
  NGHTTP2_PROTOCOL_ERROR: Code.Internal,
  NGHTTP2_INTERNAL_ERROR: Code.Internal,
  NGHTTP2_CANCEL: Code.Canceled,
  NGHTTP2_ENHANCE_YOUR_CALM: Code.ResourceExhausted,
  NGHTTP2_INADEQUATE_SECURITY: Code.PermissionDenied,
} as const;

for (const [name, code] of Object.entries(RESETS)) {
  test(`a reset with ${name} is ${Code[code]}, and the connection stays`, async (t) => {
    const peer = await startPeer(t, routes);
    peer.server.once("stream", (stream) => stream.close(http2.constants[name as keyof typeof RESETS]));
    const { books } = startPool(t, { address: peer.address });
    const error = await within(2_000, failureOf(books.getBook({ id: "b1" }, { timeoutMs: 0 })));
    assert.equal(error.code, code);
    await books.getBook({ id: "b1" });
    assert.equal(peer.sessionCount(), 1);
  });
}

test("a call whose stream is refused is sent once more, whatever it does", async (t) => {
  const peer = await startPeer(t, (router) => router.service(BookService, { createBook: () => ({}) }));
  const refuse = (stream: http2.ServerHttp2Stream) => stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  peer.server.once("stream", refuse);
  const { books } = startPool(t, { address: peer.address });
  await books.createBook({ title: "x" });
  peer.server.on("stream", refuse);
  assert.equal((await within(2_000, failureOf(books.createBook({ title: "x" })))).code, Code.Unavailable);
  assert.equal(peer.sessionCount(), 1);
});

for (const protocol of ["grpc", "connect", "grpc-web"]) {
  test(`${protocol}: an answer that breaks off without an error is UNAVAILABLE`, async (t) => {
    const peer = await startPeer(t, () => {});
    peer.server.removeAllListeners("request");
    peer.server.on("request", ({ headers }, response) => {
      response.writeHead(200, { "content-type": headers["content-type"] });
      // RST_STREAM with NO_ERROR, and no END_STREAM before it.
      response.stream.write(Buffer.of(0, 0), () => response.stream.destroy());
    });
    const { books, pool } = startPool(t, { address: peer.address, protocol });
    assert.equal((await within(2_000, failureOf(books.getBook({ id: "b1" })))).code, Code.Unavailable);
    const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" });
    const error = await within(2_000, failureOf(stream[Symbol.asyncIterator]().next()));
    assert.equal(error.code, Code.Unavailable);
  });
}

test("a call whose connection is lost while it still sends its request fails with UNAVAILABLE", async (t) => {
  const sockets: Socket[] = [];
  const address = await startTcpPeer(t, (socket) => {
    sockets.push(socket);
    socket.write(EMPTY_SETTINGS);
    socket.resume();
  });
  const { books, pool } = startPool(t, { address });
  // More than the 64 KiB that may be sent before the peer makes room.
  const call = failureOf(books.createBook({ title: "x".repeat(1_000_000) }));
  await until(() => pool.states()[0]?.state === "ready");
  await delay(20);
  for (const socket of sockets) socket.destroy();
  assert.equal((await within(2_000, call)).code, Code.Unavailable);
});

test("a GOAWAY with an error ends open calls with UNAVAILABLE and says what the peer said", async (t) => {
  const peer = await startPeer(t, (router) => {
    router.service(BookService, { listBooks: () => new Promise(() => {}), getBook: () => ({}) });
  });
  const { books, pool } = startPool(t, { address: peer.address });
  const failure = failureOf(books.listBooks({}));
  await until(() => pool.states()[0]?.openCalls === 1 && peer.sessions.size === 1);
  const { NGHTTP2_ENHANCE_YOUR_CALM } = http2.constants;
  for (const session of peer.sessions) session.goaway(NGHTTP2_ENHANCE_YOUR_CALM, 1, Buffer.from("too_many_pings"));
  const error = await within(2_000, failure);
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /ENHANCE_YOUR_CALM "too_many_pings"/);
  await books.getBook({ id: "b1" });
});

/** Calls all the time until `stop`; every call must settle. */
function load(t: TestContext, call: () => Promise<unknown>, concurrency: number) {
  let stopped = false;
  let done = 0;
  const errors: ConnectError[] = [];
  const workers = Array.from({ length: concurrency }, async () => {
    while (!stopped) {
      try {
        await call();
      } catch (error) {
        errors.push(ConnectError.from(error));
        // Calls that fail at once would leave no turn to anything else.
        await immediate();
      }
      done++;
    }
  });
  t.after(() => {
    stopped = true;
  });
  return {
    errors,
    done: () => done,
    stop: () => {
      stopped = true;
      return within(10_000, Promise.all(workers));
    },
  };
}

/** Calls a peer all the time while each of its sessions is ended 20 times in a row. */
async function underLoad(t: TestContext, end: (session: http2.ServerHttp2Session) => void) {
  const peer = await startPeer(t, routes);
  const { books, pool } = startPool(t, {
    address: peer.address,
    connect_backoff: FAST_BACKOFF,
    // So many calls fail here that it would open.
    breaker: { enabled: false },
  });
  const calls = load(t, () => books.listBooks({}, { timeoutMs: 0 }), 50);
  for (let i = 0; i < 20; i++) {
    const target = calls.done() + 60;
    await until(() => calls.done() > target);
    for (const session of peer.sessions) {
      if (!session.destroyed && !session.closed) end(session);
    }
  }
  await calls.stop();
  t.diagnostic(`${calls.errors.length} of ${calls.done()} failed; ${peer.sessionCount()} connections`);
  assert.ok(peer.sessionCount() > 10);
  await until(() => pool.states()[0]?.openCalls === 0 && pool.states()[0]?.state !== "transient_failure");
  await books.getBook({ id: "b1" });
  return calls.errors.map(({ message }) => message);
}

const { NGHTTP2_INTERNAL_ERROR } = http2.constants;
for (const [how, end] of [
  ["session.close()", (session) => session.close()],
  // The last stream id that it says is the last one processed, as RFC 9113 has it.
  ["goaway(0)", (session) => session.goaway(0)],
] satisfies [string, (session: http2.ServerHttp2Session) => void][]) {
  test(`${how} under load: no call fails`, async (t) => {
    assert.deepEqual(await underLoad(t, end), []);
  });
}

for (const [how, end] of [
  ["session.destroy()", (session) => session.destroy()],
  ["a GOAWAY with an error", (session) => session.goaway(NGHTTP2_INTERNAL_ERROR)],
  ["a reset socket", (session) => session.socket.resetAndDestroy()],
] satisfies [string, (session: http2.ServerHttp2Session) => void][]) {
  test(`${how} under load: every call settles, with UNAVAILABLE if it fails, and calls go on`, async (t) => {
    const errors = await underLoad(t, end);
    assert.deepEqual(
      errors.filter((message) => !message.startsWith("[unavailable]")),
      [],
    );
  });
}

test("a peer that accepts and never answers: calls fail at their deadline, the attempt at its timeout", async (t) => {
  const address = await startTcpPeer(t, () => {});
  const { books, pool } = startPool(t, { address, connect_timeout: "1s" });
  const error = await failureOf(books.getBook({ id: "b1" }, { timeoutMs: 30 }));
  assert.equal(error.code, Code.DeadlineExceeded);
  assert.equal(pool.states()[0]?.state, "connecting");
  assert.equal(pool.states()[0]?.openCalls, 0);
  const late = await within(5_000, failureOf(books.getBook({ id: "b1" })));
  assert.equal(late.code, Code.Unavailable);
  assert.match(late.message, /no HTTP\/2 connection within 1000 ms/);
});

test("a peer that does not even accept: calls fail at their deadline, the attempt at its timeout", async (t) => {
  const address = await startStoppedPeer(t);
  const { books } = startPool(t, { address, connect_timeout: "1s" });
  const error = await within(2_000, failureOf(books.getBook({ id: "b1" }, { timeoutMs: 50 })));
  assert.equal(error.code, Code.DeadlineExceeded);
  const late = await within(5_000, failureOf(books.getBook({ id: "b1" })));
  assert.equal(late.code, Code.Unavailable);
  assert.match(late.message, /no HTTP\/2 connection within 1000 ms/);
});

test("a peer that falls silent in the middle of a call: the call fails at its deadline", async (t) => {
  const peer = await startPeer(t, (router) => {
    router.service(BookService, { getBook: () => new Promise(() => {}) });
  });
  const { books, pool } = startPool(t, { address: peer.address });
  const error = await within(5_000, failureOf(books.getBook({ id: "b1" }, { timeoutMs: 50 })));
  assert.equal(error.code, Code.DeadlineExceeded);
  await until(() => pool.states()[0]?.openCalls === 0);
});

test("a peer that speaks no HTTP/2 is down, and the error says so", async (t) => {
  const http1 = startPool(t, { address: await startHttp1Peer(t, routes) });
  const error = await within(2_000, failureOf(http1.books.getBook({ id: "b1" })));
  assert.equal(error.code, Code.Unavailable);
  const hangsUp = startPool(t, { address: await startTcpPeer(t, (socket) => socket.end()) });
  assert.equal((await within(2_000, failureOf(hangsUp.books.getBook({ id: "b1" })))).code, Code.Unavailable);
});

test("a peer that sends GOAWAY on each new connection gets a few tries, then the call fails", async (t) => {
  const server = http2.createServer();
  server.on("session", (session) => session.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  const { books } = startPool(t, { address: `127.0.0.1:${address.port}` });
  const error = await within(2_000, failureOf(books.getBook({ id: "b1" })));
  assert.equal(error.code, Code.Unavailable);
});
