import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { grpcClientsSection } from "./index.ts";
import {
  failureOf,
  freePort,
  type Peer,
  type Routes,
  startHttp1Peer,
  startPeer,
  startPool,
  until,
  within,
} from "./test-support.ts";

const GET_BOOK = "book.v1.BookService/GetBook";
const FAST_BACKOFF = { initial: "5ms", max: "20ms" };

const configOf = (...services: object[]) =>
  grpcClientsSection.parse({ services: services.map((service) => ({ name: "book-service", ...service })) });

/** A peer that says its name, and streams until it is told to end. */
async function startNamed(t: TestContext, name: string) {
  const calls: Headers[] = [];
  const end = Promise.withResolvers<void>();
  const peer = await startPeer(t, (router) => {
    router.service(BookService, {
      getBook(_, { requestHeader }) {
        calls.push(requestHeader);
        return { book: { title: name } };
      },
    });
    router.service(OrderService, {
      async *watchOrder() {
        yield { order: { id: `first of ${name}` } };
        await end.promise;
        yield { order: { id: `last of ${name}` } };
      },
    });
  });
  return { ...peer, calls, end: () => end.resolve() };
}

const never = (t: TestContext): Promise<Peer> =>
  startPeer(t, (router) => router.service(BookService, { getBook: () => new Promise(() => {}) }));

test("a changed timeout holds for the next call, on the same connection", async (t) => {
  const peer = await startNamed(t, "one");
  const { pool, books } = startPool(t, { address: peer.address, timeout: "5s" });
  // The first call has waited for the connection, and says what is left.
  await books.getBook({ id: "b1" });
  peer.calls.length = 0;
  await books.getBook({ id: "b1" });
  pool.update(configOf({ address: peer.address, timeout: "1500ms" }));
  await books.getBook({ id: "b1" });
  pool.update(configOf({ address: peer.address, timeout: "1500ms", methods: { [GET_BOOK]: { timeout: "700ms" } } }));
  await books.getBook({ id: "b1" });
  assert.deepEqual(
    peer.calls.map((header) => header.get("grpc-timeout")),
    ["5000m", "1500m", "700m"],
  );
  assert.equal(peer.sessionCount(), 1);
  assert.equal(pool.states()[0]?.methods[GET_BOOK]?.policy.timeoutMs, 700);
});

test("a call goes on by the configuration that it has begun with", async (t) => {
  const peer = await never(t);
  const { pool, books } = startPool(t, { address: peer.address, timeout: "100ms" });
  const call = failureOf(books.getBook({ id: "b1" }));
  await until(() => peer.sessions.size === 1);
  pool.update(configOf({ address: peer.address, timeout: "1h" }));
  assert.equal((await within(5_000, call)).code, Code.DeadlineExceeded);
});

test("retries begin and end with their configuration, of the service and of a method", async (t) => {
  let attempts = 0;
  const peer = await startPeer(t, (router) => {
    router.service(BookService, {
      getBook() {
        attempts++;
        throw new ConnectError("busy", Code.Unavailable);
      },
    });
  });
  const base = { address: peer.address, breaker: { enabled: false }, outlier_ejection: { enabled: false } };
  const { pool, books } = startPool(t, base);
  const attemptsOfACall = async () => {
    attempts = 0;
    assert.equal((await failureOf(books.getBook({ id: "b1" }))).code, Code.Unavailable);
    return attempts;
  };
  assert.equal(await attemptsOfACall(), 1);
  assert.equal(pool.states()[0]?.retryTokens, undefined);
  const retry = { max: 2, backoff: "1ms" };
  pool.update(configOf({ ...base, retry }));
  assert.equal(await attemptsOfACall(), 3);
  assert.equal(pool.states()[0]?.retryTokens, 497);
  pool.update(configOf({ ...base, retry: { ...retry, max: 3 } }));
  assert.equal(await attemptsOfACall(), 4);
  // The bucket is as empty as it was.
  assert.equal(pool.states()[0]?.retryTokens, 493);
  pool.update(configOf({ ...base, retry, methods: { [GET_BOOK]: { retry: "off" } } }));
  assert.equal(await attemptsOfACall(), 1);
  pool.update(configOf({ ...base, retry: { ...retry, throttle: { max_tokens: 4 } } }));
  assert.equal(pool.states()[0]?.retryTokens, 4);
  assert.equal(await attemptsOfACall(), 2);
  assert.equal(peer.sessionCount(), 1);
});

test("a breaker goes by its new configuration, and not at all when it is off", async (t) => {
  const peer = await startPeer(t, (router) => {
    router.service(BookService, {
      getBook: () => {
        throw new ConnectError("broken", Code.Internal);
      },
    });
  });
  const { pool, books } = startPool(t, { address: peer.address });
  const codeOfACall = async () => (await failureOf(books.getBook({ id: "b1" }))).code;
  for (let i = 0; i < 4; i++) assert.equal(await codeOfACall(), Code.Internal);
  pool.update(configOf({ address: peer.address, breaker: { min_calls: 5, open: "1h" } }));
  assert.equal(await codeOfACall(), Code.Internal);
  assert.equal(await codeOfACall(), Code.Unavailable);
  assert.equal(pool.states()[0]?.methods[GET_BOOK]?.breaker?.state, "open");
  pool.update(configOf({ address: peer.address, breaker: { enabled: false } }));
  assert.equal(await codeOfACall(), Code.Internal);
});

test("a changed address moves new calls, while a stream on the old peer goes on to its end", async (t) => {
  const [old, next] = await Promise.all([startNamed(t, "old"), startNamed(t, "next")]);
  const { pool, books } = startPool(t, { address: old.address });
  const orders = pool.client("book-service", OrderService);
  const stream = orders.watchOrder({ id: "o1" })[Symbol.asyncIterator]();
  assert.equal((await stream.next()).value?.order?.id, "first of old");
  pool.update(configOf({ address: next.address }));
  for (let i = 0; i < 5; i++) assert.equal((await books.getBook({ id: "b1" })).book?.title, "next");
  assert.equal(old.calls.length, 0);
  await until(() => pool.states()[0]?.openCalls === 1);
  const [state] = pool.states();
  assert.equal(state?.address, next.address);
  assert.equal(state?.replacedChannels, 1);
  assert.equal(old.sessions.size, 1);
  old.end();
  assert.equal((await stream.next()).value?.order?.id, "last of old");
  assert.equal((await stream.next()).done, true);
  await until(() => old.sessions.size === 0);
  await until(() => pool.states()[0]?.replacedChannels === undefined);
  assert.equal(pool.states()[0]?.openCalls, 0);
});

test("calls under way are not harmed by changes of the address, however often it changes", async (t) => {
  const peers = await Promise.all(["0", "1"].map((name) => startNamed(t, name)));
  const { pool, books } = startPool(t, { address: peers[0]?.address ?? "" });
  const calls: Promise<unknown>[] = [];
  for (let i = 1; i <= 20; i++) {
    for (let n = 0; n < 20; n++) calls.push(books.getBook({ id: "b1" }));
    await calls[i];
    pool.update(configOf({ address: peers[i % 2]?.address }));
  }
  await Promise.all(calls);
  await until(() => pool.states()[0]?.replacedChannels === undefined);
  await until(() => peers.reduce((sum, { sessions }) => sum + sessions.size, 0) <= 1);
});

test("reloads of everything, one after the other, harm no call and no stream", async (t) => {
  const routes: Routes = (router) => {
    router.service(BookService, { getBook: () => delay(3, {}), createBook: () => delay(3, {}) });
    router.service(OrderService, {
      async *watchOrder() {
        for (let i = 0; i < 3; i++) yield await delay(3, {});
      },
    });
  };
  const [one, two, three] = await Promise.all([startPeer(t, routes), startPeer(t, routes), startPeer(t, routes)]);
  // As many choices of each as no other has: all meet in time.
  const addresses = [one.address, [one, two, three].map(({ address }) => address)];
  const protocols = ["grpc", "connect", "grpc-web"];
  const policies = ["pick_first", "round_robin", "least_request", "round_robin", "pick_first"];
  const repeats = [
    {},
    { retry: { max: 2 } },
    { hedge: { delay: "2ms" } },
    {},
    { timeout: "4s" },
    {},
    { idle_timeout: "1m" },
  ];
  const { pool, books } = startPool(t, { address: one.address });
  const orders = pool.client("book-service", OrderService);
  let isOver = false;
  async function callOn(call: () => Promise<unknown>): Promise<void> {
    while (!isOver) await call();
  }
  const watch = async () => {
    let messages = 0;
    for await (const _ of orders.watchOrder({ id: "o1" })) messages++;
    assert.equal(messages, 3);
  };
  const calls = [() => books.getBook({ id: "b1" }), () => books.createBook({ title: "t" }), watch];
  const load = Promise.all([...calls, ...calls, ...calls].map(callOn));
  for (let i = 0; i < 60; i++) {
    const [address, protocol, policy, repeat] = [addresses, protocols, policies, repeats].map(
      (of) => of[i % of.length],
    );
    pool.update(configOf({ address, protocol, balancer: { policy }, ...(repeat as object) }));
    await Promise.race([load, delay(i % 8)]);
  }
  isOver = true;
  await within(10_000, load);
  await until(() => pool.states()[0]?.replacedChannels === undefined && pool.states()[0]?.openCalls === 0);
});

test("a call that waits for a connection, or for its next attempt, is not ended by a change of the address", async (t) => {
  const peer = await startNamed(t, "new");
  const down = `127.0.0.1:${await freePort()}`;
  const waiting = startPool(t, { address: down, wait_for_ready: true, connect_backoff: FAST_BACKOFF });
  const call = waiting.books.getBook({ id: "b1" });
  await until(() => waiting.pool.states()[0]?.state === "transient_failure");
  waiting.pool.update(configOf({ address: peer.address }));
  assert.equal((await within(5_000, call)).book?.title, "new");

  const refused = Promise.withResolvers<void>();
  const busy = await startPeer(t, (router) =>
    router.service(BookService, {
      getBook() {
        refused.resolve();
        throw new ConnectError("busy", Code.Unavailable);
      },
    }),
  );
  const retrying = startPool(t, { address: busy.address, retry: { max: 1, backoff: "50ms" } });
  const retried = retrying.books.getBook({ id: "b1" });
  await refused.promise;
  retrying.pool.update(configOf({ address: peer.address }));
  assert.equal((await within(5_000, retried)).book?.title, "new");
  await until(() => retrying.pool.states()[0]?.replacedChannels === undefined);
});

test("another protocol, and other options of connections, hold for new calls", async (t) => {
  const peer = await startNamed(t, "one");
  const { pool, books } = startPool(t, { address: peer.address });
  for (const [protocol, type] of [
    ["grpc", "application/grpc+proto"],
    ["connect", "application/proto"],
    ["grpc-web", "application/grpc-web+proto"],
  ]) {
    pool.update(configOf({ address: peer.address, protocol }));
    await books.getBook({ id: "b1" });
    assert.equal(peer.calls.at(-1)?.get("content-type"), type);
    assert.equal(pool.states()[0]?.protocol, protocol);
  }
  assert.equal(peer.sessionCount(), 3);
  pool.update(configOf({ address: peer.address, protocol: "grpc-web", balancer: { policy: "pick_first" } }));
  assert.equal(pool.states()[0]?.balancer, "pick_first");
  await books.getBook({ id: "b1" });
});

test("another version of HTTP holds for new calls, while those under way end by the old one", async (t) => {
  const old = await startNamed(t, "old");
  const next = await startHttp1Peer(t, (router) =>
    router.service(BookService, { getBook: () => ({ book: { title: "next" } }) }),
  );
  const { pool, books } = startPool(t, { address: old.address, protocol: "connect" });
  const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" })[Symbol.asyncIterator]();
  await stream.next();
  pool.update(configOf({ address: next, protocol: "connect", http: "1.1" }));
  assert.equal((await books.getBook({ id: "b1" })).book?.title, "next");
  pool.update(configOf({ address: old.address, protocol: "connect" }));
  assert.equal((await books.getBook({ id: "b1" })).book?.title, "old");
  old.end();
  assert.equal((await stream.next()).value?.order?.id, "last of old");
  assert.equal((await stream.next()).done, true);
  await until(() => pool.states()[0]?.replacedChannels === undefined);
});

test("the same configuration again changes nothing", async (t) => {
  const peer = await startNamed(t, "one");
  const service = { address: [peer.address], retry: { max: 1 }, methods: { [GET_BOOK]: { timeout: "1s" } } };
  const { pool, books } = startPool(t, service);
  await books.getBook({ id: "b1" });
  pool.update(configOf(structuredClone(service)));
  await books.getBook({ id: "b1" });
  assert.equal(peer.sessionCount(), 1);
});

test("an update with a fault throws, and nothing of it holds, of other services neither", async (t) => {
  const [one, two] = await Promise.all([startNamed(t, "one"), startNamed(t, "two")]);
  const { pool, books } = startPool(t, { address: one.address, timeout: "3s" });
  await books.getBook({ id: "b1" });
  const faults: [object, RegExp][] = [
    [{ methods: { "book.v1.BookService/BurnBook": { timeout: "1s" } } }, /BurnBook.*GetBook/],
    [{ methods: { "book.v1.BookService/CreateBook": { hedge: { max: 1 } } } }, /NO_SIDE_EFFECTS/],
  ];
  for (const [fault, message] of faults) {
    for (const position of ["first", "last"]) {
      const services = [
        { address: two.address, timeout: "1s", ...fault },
        { name: "new-service", address: two.address },
      ];
      if (position === "first") services.reverse();
      assert.throws(() => pool.update(configOf(...services)), { name: "ConfigError", message });
      assert.equal(pool.has("new-service"), false);
      assert.equal((await books.getBook({ id: "b1" })).book?.title, "one");
      assert.equal(one.calls.at(-1)?.get("grpc-timeout"), "3000m");
      assert.equal(pool.states()[0]?.address, one.address);
    }
  }
  assert.equal(one.sessionCount(), 1);
});

test("an update with TLS files that cannot be used throws, and nothing of it holds, whichever service has them", async (t) => {
  const peer = await startNamed(t, "one");
  const { pool, books } = startPool(t, { address: peer.address, timeout: "3s" });
  // A file that is there, and is no certificate.
  const tls = { ca_file: import.meta.filename, cert_file: import.meta.filename, key_file: import.meta.filename };
  await books.getBook({ id: "b1" });
  for (const services of [
    [
      { address: peer.address, timeout: "1s" },
      { name: "new-service", address: peer.address, tls },
    ],
    [
      { name: "new-service", address: peer.address },
      { address: peer.address, timeout: "1s", tls },
    ],
  ]) {
    assert.throws(() => pool.update(configOf(...services)), /update\.test\.ts/);
    assert.equal(pool.has("new-service"), false);
    await books.getBook({ id: "b1" });
    assert.equal(peer.calls.at(-1)?.get("grpc-timeout"), "3000m");
  }
  assert.equal(peer.sessionCount(), 1);
});

test("a new service can be called, and is connected to when the others are", async (t) => {
  const [one, two] = await Promise.all([startNamed(t, "one"), startNamed(t, "two")]);
  const { pool } = startPool(t, { address: one.address });
  assert.equal(pool.has("new-service"), false);
  pool.connect();
  pool.update(configOf({ address: one.address }, { name: "new-service", address: two.address }));
  assert.equal(pool.has("new-service"), true);
  await until(() => pool.states()[1]?.state === "ready");
  assert.equal((await pool.client("new-service", BookService).getBook({ id: "b1" })).book?.title, "two");
  assert.deepEqual(
    pool.states().map(({ name }) => name),
    ["book-service", "new-service"],
  );
});

test("a service that is gone is kept, and the log says so once; it can come back", async (t) => {
  const [one, two] = await Promise.all([startNamed(t, "one"), startNamed(t, "two")]);
  const { pool, books, lines } = startPool(t, { address: one.address });
  const warnings = () => lines.filter(({ level, msg }) => level === "warn" && msg.includes("book-service"));
  pool.update(configOf({ name: "new-service", address: two.address }));
  pool.update(configOf({ name: "new-service", address: two.address, timeout: "1s" }));
  assert.equal((await books.getBook({ id: "b1" })).book?.title, "one");
  assert.equal(pool.has("book-service"), true);
  assert.equal(warnings().length, 1);
  assert.equal(warnings()[0]?.peer_service, "book-service");
  pool.update(configOf({ address: two.address }));
  assert.equal((await books.getBook({ id: "b1" })).book?.title, "two");
});

test("states are in the order of the configuration that is in force", async (t) => {
  const { pool } = startPool(t, { address: "127.0.0.1:1" });
  const services = ["a", "book-service", "c"].map((name) => ({ name, address: "127.0.0.1:1" }));
  pool.update(configOf(...services));
  assert.deepEqual(
    pool.states().map(({ name }) => name),
    ["a", "book-service", "c"],
  );
});

test("after close an update does nothing", async (t) => {
  const peer = await startNamed(t, "one");
  const { pool, books } = startPool(t, { address: peer.address });
  await pool.close();
  pool.update(configOf({ address: [peer.address], timeout: "1s" }, { name: "new-service", address: peer.address }));
  assert.equal((await failureOf(books.getBook({ id: "b1" }))).code, Code.Unavailable);
  assert.equal(pool.has("new-service"), false);
  assert.equal(peer.sessionCount(), 0);
});

test("close ends what an update has replaced too", async (t) => {
  const [old, next] = await Promise.all([startNamed(t, "old"), startNamed(t, "next")]);
  const { pool } = startPool(t, { address: old.address }, { closeTimeoutMs: 50 });
  const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" })[Symbol.asyncIterator]();
  await stream.next();
  pool.update(configOf({ address: next.address }));
  const ended = failureOf(stream.next());
  await within(5_000, pool.close());
  assert.equal((await within(5_000, ended)).code, Code.Canceled);
  await until(() => old.sessions.size === 0);
});

test("calls that wait when the protocol changes go on in the old one, new ones in the new one", async (t) => {
  const port = await freePort();
  const peer = await startNamed(t, "new");
  const { pool, books } = startPool(t, {
    address: `127.0.0.1:${port}`,
    wait_for_ready: true,
    connect_backoff: FAST_BACKOFF,
  });
  const waiting = books.getBook({ id: "b1" });
  await until(() => pool.states()[0]?.state === "transient_failure");
  pool.update(configOf({ address: peer.address, protocol: "connect" }));
  assert.equal((await books.getBook({ id: "b1" })).book?.title, "new");
  assert.equal(pool.states()[0]?.replacedChannels, 1);
  const old = await startPeer(
    t,
    (router) => router.service(BookService, { getBook: () => ({ book: { title: "old" } }) }),
    { port },
  );
  assert.equal((await within(5_000, waiting)).book?.title, "old");
  await until(() => pool.states()[0]?.replacedChannels === undefined && old.sessions.size === 0);
});

test("a reload connects nobody who was not connected", async (t) => {
  const peer = await startNamed(t, "one");
  const { pool } = startPool(t, { address: peer.address });
  pool.update(configOf({ address: [peer.address, "127.0.0.1:1"] }));
  assert.equal(pool.states()[0]?.state, "idle");
  assert.equal(peer.sessionCount(), 0);
});
