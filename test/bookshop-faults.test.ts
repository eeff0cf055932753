// What goes along a chain of calls, and what becomes of it when a part of the chain is slow, down or replaced.

import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { sql } from "kysely";
import { OrderStatus } from "#gen/order/v1/order_pb.ts";
import { until, within } from "#shared/testing";
import { type Bookshop, type ServiceName, startBookshop } from "./support/bookshop.ts";
import { type BookshopClients, clientsAt } from "./support/clients.ts";
import { refusalOf } from "./support/refusal.ts";
import { startTcpFront, type TcpFront } from "./support/tcp-front.ts";

let front: TcpFront;
let shop: Bookshop;
let clients: BookshopClients;
before(async () => {
  // The gateway reaches user-service by an address that outlives the replica behind it.
  front = await startTcpFront();
  shop = await startBookshop({ env: { USER_SERVICE_ADDRESS: `127.0.0.1:${front.port}` } });
  front.pointTo(shop.portOf("user"));
  clients = clientsAt(shop.url);
  await clients.books.createBook({ requestId: randomUUID(), title: "T", author: "A", priceCents: 1n, stock: 100 });
  await until("the chain to stand", async () => (await greeting()).includes("recommend"));
});
after(async () => {
  await shop.close();
  await front.close();
});

describe("a chain of calls", () => {
  const steps: readonly (readonly [ServiceName, string])[] = [
    ["gateway", "user.v1.UserService/SayHello"],
    ["user", "user.v1.UserService/SayHello"],
    ["book", "book.v1.BookService/GetRecommendation"],
    ["order", "order.v1.OrderService/ListOrders"],
  ];

  test("has one trace id and one request id, those of the caller", async () => {
    const traceId = randomBytes(16).toString("hex");
    const requestId = `from-outside-${randomUUID()}`;
    const headers = { "x-request-id": requestId, traceparent: `00-${traceId}-00f067aa0ba902b7-01` };
    await clients.users.sayHello({ name: "Ada" }, { headers });
    for (const [service, method] of steps) {
      await shop.logs[service].line({ msg: "call", method, trace_id: traceId, request_id: requestId, code: "ok" });
    }
  });

  test("gets ids of its own where the caller has none, and tells the request id", async () => {
    let requestId: string | null = null;
    await clients.users.sayHello(
      { name: "Ada" },
      {
        onHeader: (headers) => {
          requestId = headers.get("x-request-id");
        },
      },
    );
    assert.ok(requestId);
    const traceIds = new Set<unknown>();
    for (const [service, method] of steps) {
      const line = await shop.logs[service].line({ msg: "call", method, request_id: requestId });
      traceIds.add(line["trace_id"]);
    }
    assert.equal(traceIds.size, 1);
  });

  test("says at each step who called", async () => {
    const requestId = randomUUID();
    await clients.users.sayHello({ name: "Ada" }, { headers: { "x-request-id": requestId } });
    const callers: unknown[] = [];
    for (const [service, method] of steps) {
      callers.push((await shop.logs[service].line({ msg: "call", method, request_id: requestId }))["caller"]);
    }
    assert.deepEqual(callers, [undefined, "gateway", "user-service", "book-service"]);
  });

  test("ends with DEADLINE_EXCEEDED in time when the last of it hangs", async () => {
    const { user } = await clients.users.createUser({ username: "ada", email: `${randomUUID()}@example.com` });
    await whileTheDatabaseHangs(async () => {
      const startedAt = performance.now();
      const order = { requestId: randomUUID(), userId: user!.id, items: [{ bookId: randomUUID(), quantity: 1 }] };
      const { code } = await refusalOf(clients.orders.createOrder(order, { timeoutMs: 300 }));
      assert.equal(code, "DeadlineExceeded");
      const tookMs = performance.now() - startedAt;
      assert.ok(tookMs < 1_500, `it took ${tookMs} ms`);
    });
  });

  test("answers within its deadline with what it has when the last of it hangs and can be done without", async () => {
    await whileTheDatabaseHangs(async () => {
      const { message } = await clients.users.sayHello({ name: "Ada" }, { timeoutMs: 3_000 });
      assert.equal(message, "Hello Ada! No recommendation");
    });
  });

  test("ends everywhere when the caller leaves", async () => {
    const requestId = randomUUID();
    const leaving = new AbortController();
    await whileTheDatabaseHangs(async () => {
      const headers = { "x-request-id": requestId };
      const call = clients.users.getUser({ id: randomUUID() }, { headers, signal: leaving.signal });
      setTimeout(() => leaving.abort(), 50);
      assert.equal((await refusalOf(call)).code, "Canceled");
      await shop.logs.user.line({ msg: "call", request_id: requestId, code: "canceled" });
    });
  });
});

describe("a greeting", () => {
  test("goes without a recommendation while book-service is down, and has one again when it is back", async () => {
    assert.match(await greeting(), /We recommend/);
    await shop.stop("book");
    assert.equal(await greeting(), "Hello Ada! No recommendation");
    await shop.start("book");
    await until("a recommendation", async () => (await greeting()).includes("We recommend"));
  });
});

describe("a watch", () => {
  test("ends with UNAVAILABLE when the service that it looks at shuts down, and can be begun again", async (t) => {
    const release = shop.holdEvents();
    t.after(release);
    const { user } = await clients.users.createUser({ username: "ada", email: `${randomUUID()}@example.com` });
    const { books } = await clients.books.listBooks({});
    const items = [{ bookId: books[0]!.id, quantity: 1 }];
    const { order } = await clients.orders.createOrder({ requestId: randomUUID(), userId: user!.id, items });
    const watching = Promise.withResolvers<void>();
    async function watch(): Promise<OrderStatus | undefined> {
      let last: OrderStatus | undefined;
      for await (const { order: now } of clients.orders.watchOrder({ id: order!.id })) {
        last = now?.status;
        watching.resolve();
      }
      return last;
    }
    const refusal = refusalOf(watch());
    await within(watching.promise, "the watch to begin");
    await shop.stop("order");
    const { code, reason, domain } = await within(refusal, "the watch's end");
    assert.deepEqual([code, reason, domain], ["Unavailable", "SHUTTING_DOWN", "order-service"]);

    await shop.start("order");
    release();
    await until("the watch to see the change", () =>
      watch().then(
        (last) => last === OrderStatus.CONFIRMED,
        () => false,
      ),
    );
  });
});

describe("a service that is replaced under load", () => {
  test("fails no call of the gateway, neither reads nor writes", async () => {
    const { user } = await clients.users.createUser({ username: "ada", email: `${randomUUID()}@example.com` });
    const outcomes: string[] = [];
    let isReplaced = false;
    async function load(call: () => Promise<unknown>): Promise<void> {
      while (!isReplaced) {
        await call().then(
          () => outcomes.push("ok"),
          (error: unknown) => outcomes.push(String(error)),
        );
      }
    }
    const reads = Array.from({ length: 8 }, () => load(() => clients.users.getUser({ id: user!.id })));
    const writes = Array.from({ length: 2 }, () =>
      load(() => clients.users.createUser({ username: "eve", email: `${randomUUID()}@example.com` })),
    );

    for (let round = 0; round < 2; round++) {
      const replica = await shop.startUserReplica();
      front.pointTo(replica.port);
      await moreOf(outcomes);
      await shop.stop("user");
      await moreOf(outcomes);
      await shop.start("user");
      front.pointTo(shop.portOf("user"));
      await replica.stop();
      await moreOf(outcomes);
    }
    isReplaced = true;
    await within(Promise.all([...reads, ...writes]), "the calls that are under way");
    assert.deepEqual([...new Set(outcomes)], ["ok"]);
  });
});

async function greeting(): Promise<string> {
  return (await clients.users.sayHello({ name: "Ada" })).message;
}

/** Holds the one session that all services have of the embedded database. */
async function whileTheDatabaseHangs(work: () => Promise<void>): Promise<void> {
  const end = AbortSignal.timeout(10_000);
  await shop.embedded.inOwnTransaction(async (db) => {
    await sql`select 1`.execute(db);
    await work();
  }, end);
}

/** Waits until so many calls more have ended. */
async function moreOf(outcomes: readonly string[], count = 100): Promise<void> {
  const enough = outcomes.length + count;
  await until("more calls", () => outcomes.length >= enough);
}
