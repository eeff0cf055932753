import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as Status } from "#gen/grpc/health/v1/health_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { discoverySection } from "#shared/discovery";
import { type EndpointState, grpcClientsSection, type ServiceState } from "../index.ts";
import { failureOf, freePort, type Routes, startPeer, startPool, until } from "../test-support.ts";

const GET_BOOK = "book.v1.BookService/GetBook";
const LIST_BOOKS = "book.v1.BookService/ListBooks";

const routes: Routes = (router) => {
  router.service(BookService, {
    getBook: () => ({ book: { id: "b1" } }),
    listBooks: () => {
      throw new ConnectError("broken", Code.Internal);
    },
  });
  router.service(OrderService, {
    async *watchOrder({ id }, { signal }) {
      yield { order: { id } };
      await once(signal, "abort");
    },
  });
};

/** That nothing of it is lost or changed on the way through JSON: no undefined, Infinity, NaN, bigint, Map or class. */
function assertIsJson(states: readonly ServiceState[]): void {
  assert.deepStrictEqual(JSON.parse(JSON.stringify(states)), states);
}

test("before anything happens, a service is idle, and all of it is JSON", (t) => {
  const { pool } = startPool(t, {
    address: ["127.0.0.1:1", "127.0.0.1:2"],
    protocol: "connect",
    breaker: { enabled: false },
  });
  assert.deepEqual(pool.states(), [
    {
      name: "book-service",
      address: "127.0.0.1:1,127.0.0.1:2",
      protocol: "connect",
      state: "idle",
      openCalls: 0,
      balancer: "least_request",
      endpoints: [],
      policy: { timeoutMs: 5_000, waitForReady: false },
      methods: {},
    },
  ] satisfies ServiceState[]);
  assertIsJson(pool.states());
});

test("a service that is used: endpoints, connections, open calls, latency", async (t) => {
  const [one, two] = await Promise.all([startPeer(t, routes), startPeer(t, routes)]);
  const { pool, books } = startPool(t, {
    address: [one.address, two.address],
    balancer: { policy: "pick_first" },
    outlier_ejection: { enabled: false },
  });
  await books.getBook({ id: "b1" });
  const leaving = new AbortController();
  const stream = pool
    .client("book-service", OrderService)
    .watchOrder({ id: "o1" }, { signal: leaving.signal })
    [Symbol.asyncIterator]();
  await stream.next();
  const [state] = pool.states();
  assert.equal(state?.state, "ready");
  assert.equal(state?.openCalls, 1);
  assert.equal(state?.lastError, undefined);
  const [first, second] = state?.endpoints ?? [];
  assert.ok(Number(first?.latencyMs) > 0);
  assert.deepEqual(first, {
    address: one.address,
    state: "ready",
    connections: 1,
    openCalls: 1,
    weight: 1,
    priority: 0,
    responsive: true,
    health: "unwatched",
    latencyMs: first?.latencyMs ?? null,
  } satisfies EndpointState);
  assert.deepEqual(second, {
    address: two.address,
    // On a busy machine the first takes so long that this one is tried beside it.
    state: second?.state ?? "idle",
    connections: second?.connections ?? 0,
    openCalls: 0,
    weight: 1,
    priority: 0,
    responsive: true,
    health: "unwatched",
    latencyMs: null,
  } satisfies EndpointState);
  assertIsJson(pool.states());
  leaving.abort();
  assert.equal((await failureOf(stream.next())).code, Code.Canceled);
  assert.equal(pool.states()[0]?.openCalls, 0);
});

test("a service that is down says why, and so does each endpoint", async (t) => {
  const addresses = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const { pool, books } = startPool(t, { address: addresses });
  await failureOf(books.getBook({ id: "b1" }));
  const [state] = pool.states();
  assert.equal(state?.state, "transient_failure");
  assert.match(state?.lastError ?? "", /ECONNREFUSED/);
  for (const [index, endpoint] of (state?.endpoints ?? []).entries()) {
    assert.equal(endpoint.state, "transient_failure");
    assert.match(endpoint.lastError ?? "", /ECONNREFUSED/);
    assert.ok(endpoint.lastError?.includes(addresses[index] ?? "?"));
  }
  assertIsJson(pool.states());
});

test("a service whose registry cannot be asked says so", async (t) => {
  const config = { address: "consul:///book-service" };
  const { pool, books } = startPool(t, config, {
    discovery: discoverySection.parse({
      consul: { address: `http://127.0.0.1:${await freePort()}` },
    }),
  });
  assert.equal((await failureOf(books.getBook({ id: "b1" }))).code, Code.Unavailable);
  const [state] = pool.states();
  assert.equal(state?.address, "consul:///book-service");
  assert.equal(state?.state, "transient_failure");
  assert.match(state?.lastError ?? "", /ECONNREFUSED/);
  assert.deepEqual(state?.endpoints, []);
  assertIsJson(pool.states());
});

test("the policy in force of each method that was called, all of it JSON", async (t) => {
  const peer = await startPeer(t, routes);
  const { pool, books } = startPool(t, {
    address: peer.address,
    timeout: "3s",
    retry: { max: 2, backoff: "1ms" },
    methods: { [LIST_BOOKS]: { timeout: "1s", retry: "off", wait_for_ready: true, breaker: { enabled: false } } },
  });
  await books.getBook({ id: "b1" });
  await failureOf(books.listBooks({}));
  await failureOf(books.createBook({ title: "t" }));
  const methods = pool.states()[0]?.methods ?? {};
  assert.deepEqual(Object.keys(methods), [GET_BOOK, LIST_BOOKS, "book.v1.BookService/CreateBook"]);
  assert.equal(methods[GET_BOOK]?.policy.timeoutMs, 3_000);
  assert.equal(methods[GET_BOOK]?.policy.retry?.max, 2);
  assert.deepEqual(methods[GET_BOOK]?.breaker, { state: "closed", calls: 1, failures: 0 });
  assert.deepEqual(methods[LIST_BOOKS], { policy: { timeoutMs: 1_000, waitForReady: true } });
  assertIsJson(pool.states());
});

test("codes of a policy are told by their names, since numbers say nothing to people", async (t) => {
  const peer = await startPeer(t, routes);
  const { pool, books } = startPool(t, {
    address: peer.address,
    retry: { max: 1, codes: ["UNAVAILABLE", "ABORTED"] },
    methods: { [LIST_BOOKS]: { hedge: { max: 1, codes: ["UNAVAILABLE"] } } },
  });
  await books.getBook({ id: "b1" });
  await failureOf(books.listBooks({}));
  const methods = JSON.parse(JSON.stringify(pool.states()[0]?.methods));
  assert.deepEqual(methods[GET_BOOK].policy.retry.codes, ["unavailable", "aborted"]);
  assert.deepEqual(methods[LIST_BOOKS].policy.hedge.codes, ["unavailable"]);
});

test("a breaker that is open says for how long", async (t) => {
  const peer = await startPeer(t, routes);
  const { pool, books } = startPool(t, { address: peer.address, breaker: { min_calls: 2, open: "1m" } });
  for (let i = 0; i < 3; i++) await failureOf(books.listBooks({}));
  const breaker = pool.states()[0]?.methods[LIST_BOOKS]?.breaker;
  assert.equal(breaker?.state, "open");
  assert.equal(breaker?.calls, 2);
  assert.equal(breaker?.failures, 2);
  assert.ok(Number(breaker?.retryInMs) > 0 && Number(breaker?.retryInMs) <= 60_000, JSON.stringify(breaker));
  assertIsJson(pool.states());
});

test("what is left in the bucket of retries, which is there only with retries or hedges", async (t) => {
  const peer = await startPeer(t, (router) =>
    router.service(BookService, {
      getBook: () => {
        throw new ConnectError("busy", Code.Unavailable);
      },
    }),
  );
  const { pool, books } = startPool(t, {
    address: peer.address,
    retry: { max: 1, backoff: "1ms", throttle: { max_tokens: 10, token_ratio: 0.1 } },
  });
  assert.equal(pool.states()[0]?.retryTokens, 10);
  await failureOf(books.getBook({ id: "b1" }));
  assert.equal(pool.states()[0]?.retryTokens, 8);
  assertIsJson(pool.states());
  pool.update(grpcClientsSection.parse({ services: [{ name: "book-service", address: peer.address }] }));
  assert.equal(pool.states()[0]?.retryTokens, undefined);
  pool.update(
    grpcClientsSection.parse({
      services: [
        {
          name: "book-service",
          address: peer.address,
          methods: { [GET_BOOK]: { retry: { max: 1 } } },
        },
      ],
    }),
  );
  assert.equal(pool.states()[0]?.retryTokens, 500);
});

test("an ejection, and how long it lasts", async (t) => {
  const [ill, good] = await Promise.all([
    startPeer(t, (router) =>
      router.service(BookService, {
        getBook: () => {
          throw new ConnectError("broken", Code.Internal);
        },
      }),
    ),
    startPeer(t, routes),
  ]);
  const { pool, books } = startPool(t, {
    address: [ill.address, good.address],
    balancer: { policy: "round_robin" },
    breaker: { enabled: false },
    outlier_ejection: {
      interval: "10ms",
      base_ejection_time: "1m",
      failure_percentage: { min_hosts: 1, request_volume: 1 },
    },
  });
  await until(() => {
    void books.getBook({ id: "b1" }).catch(() => {});
    return pool.states()[0]?.endpoints[0]?.ejectedForMs !== undefined;
  });
  const ejectedForMs = pool.states()[0]?.endpoints[0]?.ejectedForMs ?? 0;
  assert.ok(ejectedForMs > 0 && ejectedForMs <= 60_000);
  assert.equal(pool.states()[0]?.endpoints[1]?.ejectedForMs, undefined);
  assert.equal(pool.states()[0]?.state, "ready");
  assertIsJson(pool.states());
});

test("health as the peer tells it; watching it is no call", async (t) => {
  let status: Status = Status.NOT_SERVING;
  let tell = () => {};
  const peer = await startPeer(t, (router) => {
    routes(router);
    router.service(Health, {
      async *watch(_, { signal }) {
        while (!signal.aborted) {
          yield { status };
          await Promise.race([once(signal, "abort"), new Promise<void>((resolve) => (tell = resolve))]);
        }
      },
    });
  });
  const { pool } = startPool(t, { address: peer.address, health_check: {} });
  pool.connect();
  await until(() => pool.states()[0]?.endpoints[0]?.health === "not_serving");
  assert.equal(pool.states()[0]?.state, "transient_failure");
  assert.equal(pool.states()[0]?.endpoints[0]?.state, "ready");
  assert.match(pool.states()[0]?.lastError ?? "", /does not serve/);
  assertIsJson(pool.states());
  status = Status.SERVING;
  tell();
  await until(() => pool.states()[0]?.state === "ready");
  assert.equal(pool.states()[0]?.endpoints[0]?.health, "serving");
  assert.equal(pool.states()[0]?.openCalls, 0);
  assert.equal(pool.states()[0]?.endpoints[0]?.openCalls, 0);
  assert.equal(pool.states()[0]?.lastError, undefined);
});

test("after close a service is shut down, and a reload that has replaced it is told while calls go on", async (t) => {
  const [old, next] = await Promise.all([startPeer(t, routes), startPeer(t, routes)]);
  const { pool } = startPool(t, { address: old.address }, { closeTimeoutMs: 20 });
  const stream = pool.client("book-service", OrderService).watchOrder({ id: "o1" })[Symbol.asyncIterator]();
  await stream.next();
  pool.update(grpcClientsSection.parse({ services: [{ name: "book-service", address: next.address }] }));
  await delay(0);
  assert.equal(pool.states()[0]?.replacedChannels, 1);
  assert.equal(pool.states()[0]?.openCalls, 1);
  assertIsJson(pool.states());
  const ended = failureOf(stream.next());
  await pool.close();
  assert.equal((await ended).code, Code.Canceled);
  assert.equal(pool.states()[0]?.state, "shutdown");
  assert.equal(pool.states()[0]?.openCalls, 0);
  assertIsJson(pool.states());
});
