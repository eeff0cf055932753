// Every reason that the three contracts name, as a caller of the gateway gets it.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { type DescEnum, fromBinary } from "@bufbuild/protobuf";
import { BookErrorReasonSchema } from "#gen/book/v1/book_pb.ts";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { OrderErrorReasonSchema } from "#gen/order/v1/order_pb.ts";
import { UserErrorReasonSchema } from "#gen/user/v1/user_pb.ts";
import { type Bookshop, startBookshop } from "./support/bookshop.ts";
import { type BookshopClients, clientsAt, clientsOn, protocols } from "./support/clients.ts";
import { type Refusal, refusalOf } from "./support/refusal.ts";

const someId = randomUUID();
const userId = randomUUID();
const requestId = randomUUID();
const bookRequestId = randomUUID();
const orderRequestId = randomUUID();

/** What is in the shop when a refusal is asked for. */
interface Stock {
  readonly email: string;
  readonly userId: string;
  readonly bookId: string;
}

type Case = readonly [
  call: (clients: BookshopClients, stock: Stock) => Promise<unknown>,
  expected: Omit<Refusal, "reason" | "metadata" | "fields"> & {
    readonly metadata?: (stock: Stock) => Readonly<Record<string, string>>;
    readonly fields?: readonly string[];
  },
];

const users: Readonly<Record<string, Case>> = {
  USER_NOT_FOUND: [
    ({ users }) => users.getUser({ id: someId }),
    { code: "NotFound", domain: "user-service", metadata: () => ({ user_id: someId }) },
  ],
  EMAIL_TAKEN: [
    ({ users }, { email }) => users.createUser({ username: "mallory", email: email.toUpperCase() }),
    { code: "AlreadyExists", domain: "user-service", metadata: ({ email }) => ({ email: email.toUpperCase() }) },
  ],
  REQUEST_ID_REUSED: [
    ({ users }) => users.createUser({ username: "other", email: `${randomUUID()}@example.com`, requestId }),
    { code: "AlreadyExists", domain: "user-service", metadata: () => ({ request_id: requestId }) },
  ],
};

const books: Readonly<Record<string, Case>> = {
  BOOK_NOT_FOUND: [
    ({ books }) => books.getBook({ id: someId }),
    { code: "NotFound", domain: "book-service", metadata: () => ({ book_id: someId }) },
  ],
  NO_RECOMMENDATION: [
    ({ books }, { userId }) => books.getRecommendation({ userId }),
    { code: "NotFound", domain: "book-service" },
  ],
  REQUEST_ID_REUSED: [
    ({ books }) =>
      books.createBook({ title: "Other", author: "A", priceCents: 1n, stock: 1, requestId: bookRequestId }),
    { code: "AlreadyExists", domain: "book-service", metadata: () => ({ request_id: bookRequestId }) },
  ],
};

const orders: Readonly<Record<string, Case>> = {
  ORDER_NOT_FOUND: [
    ({ orders }) => orders.getOrder({ id: someId }),
    { code: "NotFound", domain: "order-service", metadata: () => ({ order_id: someId }) },
  ],
  USER_NOT_FOUND: [
    ({ orders }, { bookId }) => orders.createOrder(orderOf(someId, bookId)),
    { code: "NotFound", domain: "order-service", metadata: () => ({ user_id: someId }) },
  ],
  BOOK_NOT_FOUND: [
    ({ orders }, { userId }) => orders.createOrder(orderOf(userId, someId)),
    { code: "NotFound", domain: "order-service", metadata: () => ({ book_id: someId }) },
  ],
  OUT_OF_STOCK: [
    ({ orders }, { userId, bookId }) => orders.createOrder(orderOf(userId, bookId, 3)),
    {
      code: "FailedPrecondition",
      domain: "order-service",
      metadata: ({ bookId }) => ({ book_id: bookId, requested: "3", available: "2" }),
    },
  ],
  REQUEST_ID_REUSED: [
    ({ orders }, { userId, bookId }) =>
      orders.createOrder({ ...orderOf(userId, bookId, 2), requestId: orderRequestId }),
    { code: "AlreadyExists", domain: "order-service", metadata: () => ({ request_id: orderRequestId }) },
  ],
};

const platform: Readonly<Record<string, Case>> = {
  VALIDATION_FAILED: [
    ({ orders }) => orders.createOrder({ requestId: "1", userId, items: [{ bookId: someId, quantity: 0 }] }),
    { code: "InvalidArgument", domain: "order-service", fields: ["request_id", "items[0].quantity"] },
  ],
  PAGE_TOKEN_INVALID: [
    async ({ users, books }) => {
      const { nextPageToken } = await books.listBooks({ pageSize: 1 });
      assert.notEqual(nextPageToken, "");
      await users.listUsers({ pageToken: nextPageToken });
    },
    { code: "InvalidArgument", domain: "user-service", fields: ["page_token"] },
  ],
};

let shop: Bookshop;
let stock: Stock;
before(async () => {
  shop = await startBookshop();
  stock = await fill(clientsAt(shop.url));
});
after(() => shop.close());

for (const [protocol, transportTo] of Object.entries(protocols)) {
  describe(`over ${protocol}, the reason that is promised`, () => {
    for (const [contract, cases] of Object.entries({ users, books, orders, platform })) {
      for (const [reason, [call, { metadata, fields = [], ...expected }]] of Object.entries(cases)) {
        test(`for ${contract} is ${reason}, with its details`, async () => {
          const refusal = await refusalOf(call(clientsOn(transportTo(shop.url)), stock));
          assert.deepEqual(refusal, { ...expected, reason, fields, metadata: metadata?.(stock) ?? {} });
        });
      }
    }
  });
}

test("no reason of the contracts is missing above", () => {
  assert.deepEqual(Object.keys(users), reasonsOf(UserErrorReasonSchema));
  assert.deepEqual(Object.keys(books), reasonsOf(BookErrorReasonSchema));
  assert.deepEqual(Object.keys(orders), reasonsOf(OrderErrorReasonSchema));
});

test("plain JSON gets the code's HTTP status and the reason", async () => {
  const { status, code, details } = await jsonError(shop.url);
  assert.equal(status, 404);
  assert.equal(code, "not_found");
  assert.equal(details[0]?.type, "google.rpc.ErrorInfo");
  const info = fromBinary(ErrorInfoSchema, Buffer.from(details[0].value, "base64"));
  assert.equal(info.reason, "USER_NOT_FOUND");
});

test("plain JSON at the gateway has the reason in words, as at the service", async () => {
  const { details } = await jsonError(shop.url);
  assert.equal(details[0]?.debug?.reason, "USER_NOT_FOUND");
});

test("a service that an answer needs and that is down is named, and is UNAVAILABLE", async () => {
  const { users, orders } = clientsAt(shop.url);
  await shop.stop("user");
  const expected = {
    code: "Unavailable",
    reason: "PEER_UNAVAILABLE",
    metadata: { service: "user-service" },
    fields: [],
  } as const;
  // The gateway's own call fails in the first case, order-service's in the second.
  assert.deepEqual(await refusalOf(users.getUser({ id: someId })), { ...expected, domain: "gateway" });
  const refusal = await refusalOf(orders.createOrder(orderOf(stock.userId, stock.bookId)));
  assert.deepEqual(refusal, { ...expected, domain: "order-service" });
  await shop.start("user");
});

/** One user, a sold-out book, one of which there are two left, and that user has bought one of it. */
async function fill({ users, books, orders }: BookshopClients): Promise<Stock> {
  const email = `${randomUUID()}@example.com`;
  const { user } = await users.createUser({ username: "ada", email, requestId });
  await books.createBook({ title: "Gone", author: "A", priceCents: 1n, stock: 0, requestId: bookRequestId });
  const last = { title: "Two left", author: "A", priceCents: 1n, stock: 3, requestId: randomUUID() };
  const { book } = await books.createBook(last);
  const { order } = await orders.createOrder({ ...orderOf(user!.id, book!.id), requestId: orderRequestId });
  await Array.fromAsync(orders.watchOrder({ id: order!.id }));
  return { email, userId: user!.id, bookId: book!.id };
}

interface JsonError {
  readonly code: string;
  readonly details: readonly { type: string; value: string; debug?: { reason: string } }[];
}

/** The refusal of a user that is unknown, without any client. */
async function jsonError(url: string): Promise<JsonError & { status: number }> {
  const response = await fetch(`${url}/user.v1.UserService/GetUser`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ id: someId }),
  });
  return { status: response.status, ...((await response.json()) as JsonError) };
}

function orderOf(userId: string, bookId: string, quantity = 1) {
  return { requestId: randomUUID(), userId, items: [{ bookId, quantity }] };
}

function reasonsOf(reasons: DescEnum): string[] {
  const names = reasons.values.map(({ localName }) => localName);
  return names.filter((name) => name !== "UNSPECIFIED");
}
