import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { pino } from "pino";
import { v7 as uuid } from "uuid";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderService, OrderStatus } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { createDatabase } from "#shared/database";
import { DomainError } from "#shared/errors";
import { createReadiness } from "#shared/lifecycle";
import {
  clientAt,
  databaseConfig,
  deadUrl,
  embeddedForTest,
  never,
  refusalOf,
  silent,
  startPeer,
} from "#shared/testing";
import { createOrderApp } from "./app.ts";
import { orderConfigSection } from "./config.ts";
import { migrations } from "./migrations.ts";
import type { OrderTables } from "./repository.ts";

const ada = { id: uuid(), username: "ada" };
const house = { id: uuid(), title: "House", priceCents: 1_399n, stock: 4 };

interface Addresses {
  users: string;
  books: string;
}

/** The app on any port, with the addresses of its peers. */
async function start(t: TestContext, { users, books }: Addresses) {
  const config = orderConfigSection.parse({
    server: { name: "order-service", host: "127.0.0.1", port: 0, shutdown_timeout: "60s" },
    grpc_clients: {
      services: [
        { name: "user-service", address: users },
        { name: "book-service", address: books },
      ],
    },
    watch_interval: "10ms",
  });
  const app = createOrderApp(config, { logger: silent, embedded: await embeddedForTest() });
  await app.start();
  const client = clientAt(t, app.url, OrderService);
  t.after(() => app.stop());
  await app.ready(AbortSignal.timeout(20_000));
  return { app, client };
}

/** A user-service that knows Ada and a book-service that has House. */
async function startPeers(t: TestContext) {
  const peers = {
    users: await startPeer(t, ({ service }) =>
      service(UserService, {
        getUser({ id }) {
          if (id === ada.id) return { user: ada };
          throw new DomainError("not_found", "USER_NOT_FOUND", "no such user");
        },
      }),
    ),
    books: await startPeer(t, ({ service }) =>
      service(BookService, {
        getBook({ id }) {
          if (id === house.id) return { book: house };
          throw new DomainError("not_found", "BOOK_NOT_FOUND", "no such book");
        },
      }),
    ),
  };
  return { ...peers, addresses: { users: peers.users.url, books: peers.books.url } };
}

const newOrder = (fields: { userId?: string; items?: { bookId: string; quantity: number }[] } = {}) => ({
  requestId: randomUUID(),
  userId: ada.id,
  items: [{ bookId: house.id, quantity: 2 }],
  ...fields,
});

describe("CreateOrder", () => {
  test("asks user-service and book-service, and stores the order", async (t) => {
    const { client } = await start(t, (await startPeers(t)).addresses);
    const { order } = await client.createOrder(newOrder());
    assert.ok(order);
    assert.equal(order.totalCents, 2_798n);
    assert.equal(order.status, OrderStatus.PENDING);
    assert.deepEqual((await client.getOrder({ id: order.id })).order, order);
    assert.deepEqual((await client.listOrders({ userId: ada.id, pageSize: 1 })).orders, [order]);
  });

  test("answers repeats at the same moment with one order, and later ones without its peers", async (t) => {
    const { users, books, addresses } = await startPeers(t);
    const { client } = await start(t, addresses);
    const request = newOrder();
    const answers = await Promise.all(Array.from({ length: 8 }, () => client.createOrder(request)));
    assert.equal(new Set(answers.map(({ order }) => order?.id)).size, 1);
    await Promise.all([users.stop(), books.stop()]);
    assert.deepEqual(await client.createOrder(request), answers[0]);
  });

  test("refuses what user-service and book-service do not know, with reasons of its own", async (t) => {
    const { client } = await start(t, (await startPeers(t)).addresses);
    const [userId, bookId] = [uuid(), uuid()];
    assert.deepEqual(await refusalOf(client.createOrder(newOrder({ userId }))), {
      code: "not_found",
      reason: "USER_NOT_FOUND",
      metadata: { user_id: userId },
      fields: [],
    });
    assert.deepEqual(await refusalOf(client.createOrder(newOrder({ items: [{ bookId, quantity: 1 }] }))), {
      code: "not_found",
      reason: "BOOK_NOT_FOUND",
      metadata: { book_id: bookId },
      fields: [],
    });
    const items = [{ bookId: house.id, quantity: 5 }];
    assert.deepEqual(await refusalOf(client.createOrder(newOrder({ items }))), {
      code: "failed_precondition",
      reason: "OUT_OF_STOCK",
      metadata: { book_id: house.id, requested: "5", available: "4" },
      fields: [],
    });
  });

  for (const [service, peer] of [
    ["user-service", "users"],
    ["book-service", "books"],
  ] as const) {
    test(`is unavailable while ${service} is down, and stores nothing`, async (t) => {
      const { addresses } = await startPeers(t);
      const { client } = await start(t, { ...addresses, [peer]: await deadUrl(t) });
      const before = await client.listOrders({});
      assert.deepEqual(await refusalOf(client.createOrder(newOrder())), {
        code: "unavailable",
        reason: "PEER_UNAVAILABLE",
        metadata: { service },
        fields: [],
      });
      assert.deepEqual(await client.listOrders({}), before);
    });
  }

  test("ends with the caller's deadline when book-service never answers, and stores nothing", async (t) => {
    const { addresses } = await startPeers(t);
    const books = await startPeer(t, ({ service }) => service(BookService, { getBook: never }));
    const { client } = await start(t, { ...addresses, books: books.url });
    const before = await client.listOrders({});
    await assert.rejects(client.createOrder(newOrder(), { timeoutMs: 200 }), ConnectError);
    assert.deepEqual(await client.listOrders({}), before);
  });
});

describe("WatchOrder", () => {
  const pending = OrderStatus.PENDING;

  /** What another replica does to an order. */
  async function confirm(t: TestContext, id: string): Promise<void> {
    const database = createDatabase<OrderTables>({
      config: databaseConfig({ url: "pglite:memory" }),
      schema: "orders",
      migrations,
      logger: pino({ level: "silent" }),
      readiness: createReadiness(),
      embedded: await embeddedForTest(),
    });
    t.after(() => database.close());
    database.start();
    await database.ready();
    await database.db.updateTable("orders").set({ status: "CONFIRMED" }).where("id", "=", id).execute();
  }

  test("answers the order as it is, then what another replica makes of it, and ends", async (t) => {
    const { client } = await start(t, (await startPeers(t)).addresses);
    const { order } = await client.createOrder(newOrder());
    assert.ok(order);
    const statuses: (OrderStatus | undefined)[] = [];
    for await (const answer of client.watchOrder({ id: order.id })) {
      statuses.push(answer.order?.status);
      if (statuses.length === 1) await confirm(t, order.id);
    }
    assert.deepEqual(statuses, [pending, OrderStatus.CONFIRMED]);
  });

  test("ends with the caller's deadline", async (t) => {
    const { client } = await start(t, (await startPeers(t)).addresses);
    const { order } = await client.createOrder(newOrder());
    const all = Array.fromAsync(client.watchOrder({ id: order?.id ?? "" }, { timeoutMs: 100 }));
    await assert.rejects(all, { code: Code.DeadlineExceeded });
  });

  test("ends as unavailable when the server shuts down", async (t) => {
    const { app, client } = await start(t, (await startPeers(t)).addresses);
    const { order } = await client.createOrder(newOrder());
    const statuses: (OrderStatus | undefined)[] = [];
    let stopped: Promise<void> | undefined;
    const all = (async () => {
      for await (const answer of client.watchOrder({ id: order?.id ?? "" })) {
        statuses.push(answer.order?.status);
        stopped = app.stop();
      }
    })();
    const { code, reason } = await refusalOf(all);
    assert.deepEqual({ code, reason }, { code: "unavailable", reason: "SHUTTING_DOWN" });
    assert.deepEqual(statuses, [pending]);
    await stopped;
  });

  test("refuses an unknown id", async (t) => {
    const { client } = await start(t, (await startPeers(t)).addresses);
    const { code, reason } = await refusalOf(Array.fromAsync(client.watchOrder({ id: uuid() })));
    assert.deepEqual({ code, reason }, { code: "not_found", reason: "ORDER_NOT_FOUND" });
  });
});

test("requests that break their rules are refused by field", async (t) => {
  const { client } = await start(t, (await startPeers(t)).addresses);
  const refused = async (call: Promise<unknown>) => {
    const { code, reason, fields } = await refusalOf(call);
    assert.deepEqual({ code, reason }, { code: "invalid_argument", reason: "VALIDATION_FAILED" });
    return fields;
  };
  assert.deepEqual(await refused(client.createOrder({})), ["request_id", "user_id", "items"]);
  const item = { bookId: house.id, quantity: 1 };
  assert.deepEqual(await refused(client.createOrder(newOrder({ items: [item, item] }))), ["items"]);
  assert.deepEqual(await refused(client.createOrder(newOrder({ items: [{ ...item, quantity: 0 }] }))), [
    "items[0].quantity",
  ]);
  assert.deepEqual(await refused(client.getOrder({})), ["id"]);
  assert.deepEqual(await refused(client.listOrders({ pageSize: 501 })), ["page_size"]);
  assert.deepEqual(await refused(Array.fromAsync(client.watchOrder({}))), ["id"]);
});

test("an app without its peers in the configuration is not made", async () => {
  const config = orderConfigSection.parse({ server: { name: "order-service", port: 0 } });
  const embedded = await embeddedForTest();
  assert.throws(() => createOrderApp(config, { logger: silent, embedded }), RangeError);
});
