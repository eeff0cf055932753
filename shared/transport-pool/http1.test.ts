import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { OrderService, OrderStatus } from "#gen/order/v1/order_pb.ts";
import {
  failureOf,
  freePort,
  type Routes,
  startPool,
  startStoppedPeer,
  startTcpPeer,
  until,
  within,
} from "./test-support.ts";

const HTTP1 = { protocol: "connect", http: "1.1" };
const FAST_BACKOFF = { initial: "5ms", max: "20ms" };

/** A Connect server that speaks HTTP/1.1 only, and counts its connections. */
async function startPeer(t: TestContext, routes: Routes, port = 0) {
  const hosts = new Set<string | undefined>();
  const sockets = new Set<Socket>();
  let connections = 0;
  const handle = connectNodeAdapter({ routes });
  const server = http.createServer((req, res) => {
    hosts.add(req.headers.host);
    handle(req, res);
  });
  server.on("connection", (socket) => {
    connections++;
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  async function kill(): Promise<void> {
    const closed = server.listening ? once(server, "close") : undefined;
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  }
  t.after(kill);
  const bound = (server.address() as AddressInfo).port;
  return { address: `127.0.0.1:${bound}`, port: bound, hosts, sockets, connections: () => connections, kill };
}

const named =
  (name: string): Routes =>
  (router) =>
    router.service(BookService, { getBook: () => ({ book: { title: name } }) });

const never: Routes = (router) => {
  router.service(BookService, { getBook: () => new Promise(() => {}) });
  router.service(OrderService, {
    async *watchOrder({ id }) {
      yield { order: { id } };
      await new Promise(() => {});
    },
  });
};

test("calls one after the other share a connection, which names the peer as its host", async (t) => {
  const peer = await startPeer(t, named("one"));
  const { books, pool } = startPool(t, { address: peer.address, ...HTTP1 });
  for (let i = 0; i < 10; i++) assert.equal((await books.getBook({ id: "b1" })).book?.title, "one");
  assert.equal(peer.connections(), 1);
  assert.deepEqual([...peer.hosts], [peer.address]);
  const [state] = pool.states();
  assert.equal(state?.state, "ready");
  assert.equal(state?.openCalls, 0);
  assert.equal(state?.endpoints[0]?.connections, 1);
});

test("calls beside each other have a connection each", async (t) => {
  const release = Promise.withResolvers<object>();
  const peer = await startPeer(t, (router) => router.service(BookService, { getBook: () => release.promise }));
  const { books, pool } = startPool(t, { address: peer.address, ...HTTP1 });
  const calls = [1, 2, 3].map(() => books.getBook({ id: "b1" }));
  await until(() => peer.connections() === 3);
  assert.equal(pool.states()[0]?.openCalls, 3);
  release.resolve({});
  await Promise.all(calls);
  assert.equal(pool.states()[0]?.openCalls, 0);
});

test("an error arrives with its code, message, details and metadata, and the connection is kept", async (t) => {
  const peer = await startPeer(t, (router) => {
    router.service(BookService, {
      getBook: ({ id }) => {
        const error = new ConnectError(`no book ${id}`, Code.NotFound, { "x-hint": "look elsewhere" });
        const info = { reason: "BOOK_NOT_FOUND", domain: "book-service", metadata: { book_id: id } };
        error.details.push({ desc: ErrorInfoSchema, value: create(ErrorInfoSchema, info) });
        throw error;
      },
    });
  });
  const { books } = startPool(t, { address: peer.address, ...HTTP1 });
  for (let i = 0; i < 3; i++) {
    const error = await failureOf(books.getBook({ id: "b1" }));
    assert.equal(error.code, Code.NotFound);
    assert.equal(error.rawMessage, "no book b1");
    assert.equal(error.metadata.get("x-hint"), "look elsewhere");
    assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, "BOOK_NOT_FOUND");
  }
  assert.equal(peer.connections(), 1);
});

test("a server stream gives its messages in order and its error after them", async (t) => {
  const peer = await startPeer(t, (router) => {
    router.service(OrderService, {
      async *watchOrder({ id }) {
        yield { order: { id, status: OrderStatus.PENDING } };
        yield { order: { id, status: OrderStatus.CONFIRMED } };
        if (id === "bad") throw new ConnectError("enough", Code.Aborted);
      },
    });
  });
  const { pool } = startPool(t, { address: peer.address, ...HTTP1 });
  const orders = pool.client("book-service", OrderService);
  for (const id of ["good", "bad", "good"]) {
    const seen: OrderStatus[] = [];
    const watching = (async () => {
      for await (const { order } of orders.watchOrder({ id })) seen.push(order?.status ?? 0);
    })();
    if (id === "bad") assert.equal((await failureOf(watching)).code, Code.Aborted);
    else await watching;
    assert.deepEqual(seen, [OrderStatus.PENDING, OrderStatus.CONFIRMED]);
  }
  assert.equal(pool.states()[0]?.openCalls, 0);
});

test("calls are spread over two peers, and go to the other one when one is gone", async (t) => {
  const [one, two] = await Promise.all([startPeer(t, named("one")), startPeer(t, named("two"))]);
  const { books, pool } = startPool(t, {
    address: [one.address, two.address],
    ...HTTP1,
    balancer: { policy: "round_robin" },
    connect_backoff: { initial: "1m" },
  });
  const titles = async (count: number) => {
    const seen: Record<string, number> = {};
    for (let i = 0; i < count; i++) {
      const { book } = await books.getBook({ id: "b1" });
      seen[book?.title ?? ""] = (seen[book?.title ?? ""] ?? 0) + 1;
    }
    return seen;
  };
  assert.deepEqual(await titles(10), { one: 5, two: 5 });
  await one.kill();
  await until(() => pool.states()[0]?.endpoints[0]?.connections === 0);
  // Not one of them fails, though nothing is retried: none had left when the connection was refused.
  assert.deepEqual(await titles(10), { two: 10 });
  assert.equal(pool.states()[0]?.endpoints[0]?.state, "transient_failure");
  assert.match(pool.states()[0]?.endpoints[0]?.lastError ?? "", /ECONNREFUSED/);
});

test("a retry goes to another peer", async (t) => {
  let refused = 0;
  const busy = await startPeer(t, (router) =>
    router.service(BookService, {
      getBook() {
        refused++;
        throw new ConnectError("busy", Code.Unavailable);
      },
    }),
  );
  const good = await startPeer(t, named("good"));
  const { books } = startPool(t, {
    address: [busy.address, good.address],
    ...HTTP1,
    balancer: { policy: "round_robin" },
    retry: { max: 1, backoff: "1ms" },
    outlier_ejection: { enabled: false },
  });
  for (let i = 0; i < 10; i++) assert.equal((await books.getBook({ id: "b1" })).book?.title, "good");
  assert.ok(refused >= 1);
});

test("a service that is down is UNAVAILABLE, by its name and address, and not sent to in the backoff", async (t) => {
  const address = `127.0.0.1:${await freePort()}`;
  const { books, pool, lines } = startPool(t, { address, ...HTTP1 });
  for (let i = 0; i < 2; i++) {
    const error = await within(2_000, failureOf(books.getBook({ id: "b1" })));
    assert.equal(error.code, Code.Unavailable);
    assert.ok(error.message.includes("book-service"), error.message);
    assert.ok(error.message.includes(address), error.message);
    assert.match(error.message, /ECONNREFUSED/);
  }
  assert.equal(pool.states()[0]?.state, "transient_failure");
  assert.equal(pool.states()[0]?.openCalls, 0);
  assert.equal(lines.filter(({ msg }) => msg.includes("is down")).length, 1);
});

test("a service that comes back is called again, and the log says so once, when it is true", async (t) => {
  const port = await freePort();
  const { books, lines } = startPool(t, { address: `127.0.0.1:${port}`, ...HTTP1, connect_backoff: FAST_BACKOFF });
  const isAnswered = () =>
    books.getBook({ id: "b1" }).then(
      () => true,
      () => false,
    );
  for (let i = 0; i < 20; i++) {
    assert.equal(await isAnswered(), false);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  assert.equal(lines.filter(({ level, msg }) => level === "warn" && msg.includes("is down")).length, 1);
  assert.equal(lines.filter(({ msg }) => msg.includes("is back")).length, 0);
  await startPeer(t, named("one"), port);
  await within(
    5_000,
    (async () => {
      while (!(await isAnswered())) await new Promise((resolve) => setTimeout(resolve, 2));
    })(),
  );
  assert.equal(lines.filter(({ msg }) => msg.includes("is back")).length, 1);
});

test("with wait_for_ready a call waits for a peer that comes later", async (t) => {
  const port = await freePort();
  const { books, pool } = startPool(t, {
    address: `127.0.0.1:${port}`,
    ...HTTP1,
    wait_for_ready: true,
    connect_backoff: FAST_BACKOFF,
  });
  const call = books.getBook({ id: "b1" });
  await until(() => pool.states()[0]?.endpoints[0]?.state === "transient_failure");
  await startPeer(t, named("late"), port);
  assert.equal((await within(5_000, call)).book?.title, "late");
});

test("calls that are open when their peer is killed fail with UNAVAILABLE, streams too", async (t) => {
  const peer = await startPeer(t, never);
  const { books, pool } = startPool(t, { address: peer.address, ...HTTP1 });
  const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" })[Symbol.asyncIterator]();
  assert.equal((await stream.next()).value?.order?.id, "o1");
  const failures = Promise.all([failureOf(books.getBook({ id: "b1" })), failureOf(stream.next())]);
  await until(() => peer.connections() === 2 && pool.states()[0]?.openCalls === 2);
  await peer.kill();
  for (const error of await within(2_000, failures)) assert.equal(error.code, Code.Unavailable, error.message);
});

test("a peer that never accepts what it is sent is UNAVAILABLE after connect_timeout", async (t) => {
  // Speaks no TLS.
  const address = await startTcpPeer(t, () => {});
  const { books } = startPool(t, { address: `https://${address}`, ...HTTP1, connect_timeout: "50ms" });
  const error = await within(2_000, failureOf(books.getBook({ id: "b1" })));
  assert.equal(error.code, Code.Unavailable, error.message);
  assert.match(error.message, /50 ms/);
});

test("an answer that is cut off, or is no HTTP, is UNAVAILABLE", async (t) => {
  const type = "content-type: application/proto";
  for (const answer of [`HTTP/1.1 200 OK\r\n${type}\r\ncontent-length: 100\r\n\r\nhalf`, "what?\r\n\r\n", ""]) {
    const address = await startTcpPeer(t, (socket) => {
      socket.once("data", () => socket.end(answer));
    });
    const { books, pool } = startPool(t, { address, ...HTTP1 });
    const error = await within(2_000, failureOf(books.getBook({ id: "b1" })));
    assert.equal(error.code, Code.Unavailable, `${JSON.stringify(answer)}: ${error.message}`);
    await until(() => pool.states()[0]?.endpoints[0]?.connections === 0);
  }
});

test("a call that waits for its connection ends with its deadline, and close does not wait for the peer", async (t) => {
  const address = await startStoppedPeer(t);
  const { books, pool } = startPool(t, { address, ...HTTP1 }, { closeTimeoutMs: 50 });
  const late = await within(2_000, failureOf(books.getBook({ id: "b1" }, { timeoutMs: 50 })));
  assert.equal(late.code, Code.DeadlineExceeded);
  assert.equal(pool.states()[0]?.openCalls, 0);
  const open = failureOf(books.getBook({ id: "b1" }));
  await until(() => pool.states()[0]?.openCalls === 1);
  await within(2_000, pool.close());
  const ended = await within(2_000, open);
  assert.equal(ended.code, Code.Unavailable, ended.message);
});

test("a deadline and a cancellation end the call and close its connection", async (t) => {
  const peer = await startPeer(t, never);
  const { books, pool } = startPool(t, { address: peer.address, ...HTTP1 });
  assert.equal((await failureOf(books.getBook({ id: "b1" }, { timeoutMs: 50 }))).code, Code.DeadlineExceeded);
  await until(() => peer.sockets.size === 0);

  const leaving = new AbortController();
  const left = failureOf(books.getBook({ id: "b1" }, { signal: leaving.signal }));
  await until(() => peer.connections() === 2);
  leaving.abort();
  assert.equal((await left).code, Code.Canceled);
  await until(() => peer.sockets.size === 0);

  const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" }, { timeoutMs: 200 });
  const watching = (async () => {
    for await (const _ of stream);
  })();
  assert.equal((await failureOf(watching)).code, Code.DeadlineExceeded);
  await until(() => peer.sockets.size === 0);
  assert.equal(pool.states()[0]?.openCalls, 0);
});

test("close lets open calls finish, and closes what is idle at once", async (t) => {
  const answer = Promise.withResolvers<object>();
  const peer = await startPeer(t, (router) => {
    router.service(BookService, { getBook: ({ id }) => (id === "slow" ? answer.promise : {}) });
  });
  const { books, pool } = startPool(t, { address: peer.address, ...HTTP1 });
  const slow = books.getBook({ id: "slow" });
  await until(() => peer.connections() === 1);
  await books.getBook({ id: "quick" });
  assert.equal(peer.connections(), 2);
  const closing = pool.close();
  await until(() => peer.sockets.size === 1);
  assert.equal((await failureOf(books.getBook({ id: "late" }))).code, Code.Unavailable);
  answer.resolve({});
  await slow;
  await within(2_000, closing);
  await until(() => peer.sockets.size === 0);
});

test("close ends calls that do not finish within its bound, with CANCELED", async (t) => {
  const peer = await startPeer(t, never);
  const { books, pool } = startPool(t, { address: peer.address, ...HTTP1 }, { closeTimeoutMs: 50 });
  const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" })[Symbol.asyncIterator]();
  await stream.next();
  const failures = Promise.all([failureOf(books.getBook({ id: "b1" })), failureOf(stream.next())]);
  await until(() => peer.connections() === 2);
  await within(2_000, pool.close());
  for (const error of await within(2_000, failures)) assert.equal(error.code, Code.Canceled, error.message);
  await until(() => peer.sockets.size === 0);
});

test("a connection that the peer has closed is not used, and the next call has another", async (t) => {
  const peer = await startPeer(t, named("one"));
  const { books, pool } = startPool(t, { address: peer.address, ...HTTP1 });
  for (let calls = 1; calls <= 3; calls++) {
    assert.equal((await books.getBook({ id: "b1" })).book?.title, "one");
    assert.equal(peer.connections(), calls);
    for (const socket of peer.sockets) socket.end();
    await until(() => pool.states()[0]?.endpoints[0]?.connections === 0);
  }
});

const ANSWER = "HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ncontent-length: 0\r\n";

for (const [what, headers, connections] of [
  ["says nothing of it", "", 1],
  ["says for how long", "keep-alive: timeout=60\r\n", 1],
  ["closes it at once", "keep-alive: timeout=1\r\n", 2],
  ["says that it is the last answer", "connection: close\r\n", 2],
] as const) {
  test(`a peer that ${what} gets two calls over ${connections} connections`, async (t) => {
    let seen = 0;
    const address = await startTcpPeer(t, (socket) => {
      seen++;
      socket.on("data", () => socket.write(`${ANSWER}${headers}\r\n`));
    });
    const { books } = startPool(t, { address, ...HTTP1 });
    await books.getBook({ id: "b1" });
    await books.getBook({ id: "b1" });
    assert.equal(seen, connections);
  });
}
