// What becomes of an order, over all services: placed, its stock reserved or rejected, confirmed or cancelled.

import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { OrderCancelReason, OrderStatus } from "#gen/order/v1/order_pb.ts";
import { until, within } from "#shared/testing";
import { type Bookshop, startBookshop } from "./support/bookshop.ts";
import { type BookshopClients, clientsAt } from "./support/clients.ts";

const { PENDING, CONFIRMED, CANCELLED } = OrderStatus;
const QUEUES = ["user_service_queue", "book_service_queue", "order_service_queue"] as const;

let shop: Bookshop;
let clients: BookshopClients;
let userId: string;
before(async () => {
  shop = await startBookshop();
  clients = clientsAt(shop.url);
  const { user } = await clients.users.createUser({ username: "ada", email: "ada@example.com" });
  userId = user!.id;
});
after(() => shop.close());

describe("an order", () => {
  test("is confirmed, and its books are out of the stock", async () => {
    const [one, two] = [await newBook(5), await newBook(2)];
    const { order } = await clients.orders.createOrder(orderOf([one, 3], [two, 2]));
    assert.equal(order?.status, PENDING);
    const updates = await watched(order.id);
    assert.equal(updates.at(-1)?.status, CONFIRMED);
    assert.deepEqual(await Promise.all([one, two].map(stockOf)), [2, 0]);
    const { order: now } = await clients.orders.getOrder({ id: order.id });
    assert.deepEqual([now?.status, now?.cancelReason], [CONFIRMED, OrderCancelReason.UNSPECIFIED]);
  });

  test("of what another has bought in the meantime is cancelled, and takes none of its books", async () => {
    const [last, other] = [await newBook(1), await newBook(5)];
    // Each of them finds the book there.
    const release = shop.holdEvents();
    const ids = await Promise.all([place([last, 1], [other, 1]), place([last, 1], [other, 1])]);
    release();
    const ends = await Promise.all(ids.map(end));
    assert.deepEqual(ends.map(({ status }) => status).sort(), [CONFIRMED, CANCELLED]);
    const cancelled = ends.find(({ status }) => status === CANCELLED);
    assert.equal(cancelled?.cancelReason, OrderCancelReason.OUT_OF_STOCK);
    assert.deepEqual(await Promise.all([last, other].map(stockOf)), [0, 4]);
  });

  test("has one trace id, from the caller to the last handler", async () => {
    const traceId = randomBytes(16).toString("hex");
    const headers = { traceparent: `00-${traceId}-00f067aa0ba902b7-01` };
    const { order } = await clients.orders.createOrder(orderOf([await newBook(1), 1]), { headers });
    await end(order!.id);
    const fields = { level: "info", order_id: order!.id, trace_id: traceId };
    await shop.logs.book.line({ ...fields, msg: "stock reserved" });
    await shop.logs.order.line({ ...fields, msg: "order confirmed" });
  });

  test("waits for a book-service that is down, and is confirmed when it is back", async () => {
    const book = await newBook(1);
    const release = shop.holdEvents();
    const id = await place([book, 1]);
    await shop.stop("book");
    release();
    assert.equal((await clients.orders.getOrder({ id })).order?.status, PENDING);
    await shop.start("book");
    assert.equal((await end(id)).status, CONFIRMED);
    assert.equal(await stockOf(book), 0);
  });

  test("is confirmed when order-service, which was down as its stock was reserved, is back", async () => {
    const book = await newBook(1);
    const release = shop.holdEvents();
    const id = await place([book, 1]);
    await shop.stop("order");
    release();
    await shop.start("order");
    assert.equal((await end(id)).status, CONFIRMED);
    assert.equal(await stockOf(book), 0);
  });
});

test("of many orders at once no more is sold than there is, none is left pending, and nothing is a dead letter", async () => {
  const stock = [7, 11, 13];
  const books = await Promise.all(stock.map(newBook));
  const release = shop.holdEvents();
  const ids = await Promise.all(
    Array.from({ length: 30 }, (_, n) => place([books[n % 3]!, 1 + (n % 2)], [books[(n + 1) % 3]!, 1])),
  );
  release();
  const orders = await Promise.all(ids.map(end));
  const sold = new Map<string, number>();
  for (const { status, items } of orders) {
    assert.notEqual(status, PENDING);
    for (const { bookId, quantity } of items) {
      if (status === CONFIRMED) sold.set(bookId, (sold.get(bookId) ?? 0) + quantity);
    }
  }
  const left = await Promise.all(books.map(stockOf));
  assert.deepEqual(
    books.map((id, n) => (sold.get(id) ?? 0) + left[n]!),
    stock,
  );
  assert.ok(left.every((count) => count >= 0) && orders.some(({ status }) => status === CANCELLED));
  for (const queue of QUEUES) assert.deepEqual(shop.broker.deadLetters(queue), [], queue);
});

test("a greeting is counted for the user with that name or id, after the response", async () => {
  const username = `eve ${randomUUID()}`;
  const { user } = await clients.users.createUser({ username, email: `${randomUUID()}@example.com` });
  for (const name of [username, user!.id]) await clients.users.sayHello({ name });
  const greetings = async () => (await clients.users.getUser({ id: user!.id })).user?.greetings;
  await until("both greetings to be counted", async () => (await greetings()) === 2n);
});

type Line = readonly [bookId: string, quantity: number];

function orderOf(...lines: readonly Line[]) {
  const items = lines.map(([bookId, quantity]) => ({ bookId, quantity }));
  return { requestId: randomUUID(), userId, items };
}

async function place(...lines: readonly Line[]): Promise<string> {
  const { order } = await clients.orders.createOrder(orderOf(...lines));
  return order!.id;
}

async function newBook(stock: number): Promise<string> {
  const book = { title: `Title ${randomUUID()}`, author: "A", priceCents: 100n, requestId: randomUUID() };
  return (await clients.books.createBook({ ...book, stock })).book!.id;
}

async function stockOf(id: string): Promise<number> {
  return (await clients.books.getBook({ id })).book!.stock;
}

/** All that a watch shows of the order, until its status is final. */
async function watched(id: string) {
  const updates = await within(Array.fromAsync(clients.orders.watchOrder({ id })), "the order's end");
  return updates.map(({ order }) => order!);
}

async function end(id: string) {
  return (await watched(id)).at(-1)!;
}
