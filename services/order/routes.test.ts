import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { v7 as uuid } from "uuid";
import {
  OrderCancelReason,
  OrderCancelReasonSchema,
  OrderErrorReasonSchema,
  OrderService,
  OrderStatus,
  OrderStatusSchema,
} from "#gen/order/v1/order_pb.ts";
import { markPeerError } from "#shared/errors";
import { clientOf, refusalOf } from "#shared/testing";
import { createOrderChanges } from "./changes.ts";
import { createMemoryRepository } from "./memory-repository.ts";
import {
  type CancelReason,
  createOrders,
  type OfferedBook,
  type OrderErrorReason,
  type Peers,
  type OrderStatus as Status,
} from "./orders.ts";
import { orderRoutes } from "./routes.ts";

const ada = uuid();
const house: OfferedBook = { id: uuid(), title: "House", priceCents: 1_399n, stock: 4 };
const soul: OfferedBook = { id: uuid(), title: "The Soul of a New Machine", priceCents: 1_599n, stock: 12 };

function start(overrides: Partial<Peers> = {}) {
  const asked: string[] = [];
  const peers: Peers = {
    async findUser(id) {
      asked.push(id);
      return id.toLowerCase() === ada ? { id: ada } : undefined;
    },
    async findBook(id) {
      asked.push(id);
      return [house, soul].find((book) => book.id === id.toLowerCase());
    },
    ...overrides,
  };
  const repository = createMemoryRepository();
  const orders = createOrders({ repository, peers, changes: createOrderChanges(), watchIntervalMs: 1 });
  return { client: clientOf(OrderService, orderRoutes(orders)), repository, asked };
}

const newOrder = (fields: { userId?: string; items?: { bookId: string; quantity: number }[] } = {}) => ({
  requestId: randomUUID(),
  userId: ada,
  items: [
    { bookId: soul.id, quantity: 2 },
    { bookId: house.id, quantity: 4 },
  ],
  ...fields,
});

describe("CreateOrder", () => {
  test("answers a pending order with today's titles and prices", async () => {
    const { client } = start();
    const { order } = await client.createOrder(newOrder());
    assert.ok(order);
    const { id, userId, items, totalCents, status, cancelReason, createdAt, updatedAt } = order;
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    assert.equal(userId, ada);
    assert.deepEqual(
      items.map(({ bookId, title, quantity, unitPriceCents }) => ({ bookId, title, quantity, unitPriceCents })),
      [
        { bookId: soul.id, title: soul.title, quantity: 2, unitPriceCents: 1_599n },
        { bookId: house.id, title: house.title, quantity: 4, unitPriceCents: 1_399n },
      ],
    );
    assert.equal(totalCents, 8_794n);
    assert.deepEqual([status, cancelReason], [OrderStatus.PENDING, OrderCancelReason.UNSPECIFIED]);
    assert.ok(createdAt);
    assert.deepEqual(updatedAt, createdAt);
  });

  test("answers a repeat with the first order, asking nobody again", async () => {
    const { client, asked } = start();
    const request = newOrder();
    const first = await client.createOrder(request);
    const askedFirst = asked.length;
    assert.deepEqual(await client.createOrder(request), first);
    assert.deepEqual(await client.createOrder({ ...request, items: request.items.toReversed() }), first);
    assert.equal(asked.length, askedFirst);
    assert.equal((await client.listOrders({})).orders.length, 1);
  });

  test("answers repeats at the same moment with one order", async () => {
    const { client } = start();
    const request = newOrder();
    const answers = await Promise.all(Array.from({ length: 8 }, () => client.createOrder(request)));
    assert.equal(new Set(answers.map(({ order }) => order?.id)).size, 1);
  });

  test("takes ids in upper case for the same", async () => {
    const { client } = start();
    const request = newOrder({ items: [{ bookId: house.id, quantity: 1 }] });
    const upper = { ...request, userId: ada.toUpperCase(), items: [{ bookId: house.id.toUpperCase(), quantity: 1 }] };
    const first = await client.createOrder(upper);
    assert.deepEqual([first.order?.userId, first.order?.items[0]?.bookId], [ada, house.id]);
    assert.deepEqual(await client.createOrder(request), first);
    assert.deepEqual(await client.createOrder(upper), first);
  });

  test("refuses a request id that was used for another user or other items", async () => {
    const { client } = start();
    const request = newOrder();
    await client.createOrder(request);
    const [one, two] = request.items;
    assert.ok(one && two);
    const others = [
      { userId: uuid() },
      { items: [one] },
      { items: [one, two, { bookId: uuid(), quantity: 1 }] },
      { items: [one, { ...two, quantity: 1 }] },
      { items: [one, { ...two, bookId: uuid() }] },
      {
        items: [
          { ...one, quantity: two.quantity },
          { ...two, quantity: one.quantity },
        ],
      },
    ];
    for (const other of others) {
      assert.deepEqual(await refusalOf(client.createOrder({ ...request, ...other })), {
        code: "already_exists",
        reason: "REQUEST_ID_REUSED",
        metadata: { request_id: request.requestId },
        fields: [],
      });
    }
  });

  const refusals: {
    what: string;
    order: Parameters<typeof newOrder>[0];
    code: string;
    reason: OrderErrorReason;
    metadata: Record<string, string>;
  }[] = [
    {
      what: "an unknown user",
      order: { userId: "nobody" },
      code: "not_found",
      reason: "USER_NOT_FOUND",
      metadata: { user_id: "nobody" },
    },
    {
      what: "an unknown book",
      order: {
        items: [
          { bookId: house.id, quantity: 9 },
          { bookId: "nothing", quantity: 1 },
        ].toReversed(),
      },
      code: "not_found",
      reason: "BOOK_NOT_FOUND",
      metadata: { book_id: "nothing" },
    },
    {
      what: "more than there are",
      order: {
        items: [
          { bookId: soul.id, quantity: 12 },
          { bookId: house.id, quantity: 5 },
        ],
      },
      code: "failed_precondition",
      reason: "OUT_OF_STOCK",
      metadata: { book_id: house.id, requested: "5", available: "4" },
    },
  ];
  for (const { what, order, code, reason, metadata } of refusals) {
    test(`refuses ${what}, and stores nothing`, async () => {
      const { client } = start();
      assert.deepEqual(await refusalOf(client.createOrder(newOrder(order))), { code, reason, metadata, fields: [] });
      assert.deepEqual((await client.listOrders({})).orders, []);
    });
  }

  test("is unavailable when a peer cannot be asked, and can be sent again", async () => {
    let isDown = true;
    const { client } = start({
      async findBook(id) {
        if (isDown) throw markPeerError(new ConnectError("down", Code.Unavailable), "book-service");
        return { ...house, id };
      },
    });
    const request = newOrder({ items: [{ bookId: house.id, quantity: 1 }] });
    assert.deepEqual(await refusalOf(client.createOrder(request)), {
      code: "unavailable",
      reason: "PEER_UNAVAILABLE",
      metadata: { service: "book-service" },
      fields: [],
    });
    isDown = false;
    assert.equal((await client.createOrder(request)).order?.totalCents, 1_399n);
  });
});

describe("GetOrder", () => {
  test("answers the order", async () => {
    const { client } = start();
    const { order } = await client.createOrder(newOrder());
    assert.deepEqual((await client.getOrder({ id: order?.id ?? "" })).order, order);
  });

  test("says why an order was cancelled", async () => {
    const { client, repository } = start();
    const { order } = await client.createOrder(newOrder());
    await repository.settle(order?.id ?? "", { status: "CANCELLED", cancelReason: "OUT_OF_STOCK" });
    const { order: now } = await client.getOrder({ id: order?.id ?? "" });
    assert.deepEqual([now?.status, now?.cancelReason], [OrderStatus.CANCELLED, OrderCancelReason.OUT_OF_STOCK]);
  });

  test("refuses an unknown id", async () => {
    assert.deepEqual(await refusalOf(start().client.getOrder({ id: "nothing" })), {
      code: "not_found",
      reason: "ORDER_NOT_FOUND",
      metadata: { order_id: "nothing" },
      fields: [],
    });
  });
});

describe("ListOrders", () => {
  test("answers 50 a page unless told otherwise, newest first, and a token for the next", async () => {
    const { client } = start();
    const ids: (string | undefined)[] = [];
    for (let n = 0; n < 51; n++) ids.unshift((await client.createOrder(newOrder())).order?.id);
    const first = await client.listOrders({});
    const second = await client.listOrders({ pageToken: first.nextPageToken });
    assert.deepEqual([first.orders.length, second.orders.length], [50, 1]);
    assert.deepEqual(
      [...first.orders, ...second.orders].map(({ id }) => id),
      ids,
    );
    assert.equal(second.nextPageToken, "");
    assert.equal((await client.listOrders({ pageSize: 7 })).orders.length, 7);
  });

  test("answers one user's orders alone when asked for them", async () => {
    const { client } = start();
    const { order } = await client.createOrder(newOrder());
    assert.deepEqual((await client.listOrders({ userId: ada })).orders, [order]);
    assert.deepEqual((await client.listOrders({ userId: "Ada" })).orders, []);
  });

  test("refuses a token that it has not given", async () => {
    const { code, reason } = await refusalOf(start().client.listOrders({ pageToken: "x" }));
    assert.deepEqual({ code, reason }, { code: "invalid_argument", reason: "PAGE_TOKEN_INVALID" });
  });
});

describe("WatchOrder", () => {
  test("answers the order as it is, then after each change, until the status is final", async () => {
    const { client, repository } = start();
    const { order } = await client.createOrder(newOrder());
    const statuses: OrderStatus[] = [];
    for await (const answer of client.watchOrder({ id: order?.id ?? "" })) {
      statuses.push(answer.order?.status ?? OrderStatus.UNSPECIFIED);
      await repository.settle(order?.id ?? "", { status: "CANCELLED", cancelReason: "OUT_OF_STOCK" });
    }
    assert.deepEqual(statuses, [OrderStatus.PENDING, OrderStatus.CANCELLED]);
  });

  test("refuses an unknown id", async () => {
    const all = Array.fromAsync(start().client.watchOrder({ id: "nothing" }));
    assert.deepEqual(await refusalOf(all), {
      code: "not_found",
      reason: "ORDER_NOT_FOUND",
      metadata: { order_id: "nothing" },
      fields: [],
    });
  });

  test("ends when the caller goes away", async () => {
    const { client } = start();
    const { order } = await client.createOrder(newOrder());
    const leaving = new AbortController();
    const all = (async () => {
      for await (const _ of client.watchOrder({ id: order?.id ?? "" }, { signal: leaving.signal })) leaving.abort();
    })();
    await assert.rejects(all, ConnectError);
  });
});

test("the reasons and statuses of the domain are those of the contract", () => {
  const reasons: Record<OrderErrorReason, true> = {
    ORDER_NOT_FOUND: true,
    USER_NOT_FOUND: true,
    BOOK_NOT_FOUND: true,
    OUT_OF_STOCK: true,
    REQUEST_ID_REUSED: true,
  };
  const statuses: Record<Status, true> = { PENDING: true, CONFIRMED: true, CANCELLED: true };
  const cancelReasons: Record<CancelReason, true> = { OUT_OF_STOCK: true, TIMED_OUT: true };
  for (const [domain, { values }] of [
    [reasons, OrderErrorReasonSchema],
    [statuses, OrderStatusSchema],
    [cancelReasons, OrderCancelReasonSchema],
  ] as const) {
    const contract = values.map(({ localName }) => localName);
    assert.deepEqual(["UNSPECIFIED", ...Object.keys(domain)].sort(), contract.sort());
  }
});
