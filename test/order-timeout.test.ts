// Orders that time out, over all services: each order ends, and no stock is lost, whatever comes first.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { type Order, OrderCancelReason, OrderStatus } from "#gen/order/v1/order_pb.ts";
import { until, within } from "#shared/testing";
import { sleep } from "#shared/timing";
import { type Bookshop, startBookshop } from "./support/bookshop.ts";
import { type BookshopClients, clientsAt } from "./support/clients.ts";

const { CONFIRMED, CANCELLED } = OrderStatus;
const { TIMED_OUT } = OrderCancelReason;
const QUEUES = ["user_service_queue", "book_service_queue", "order_service_queue"];
const ORDER_TIMEOUT_MS = 1_000;

let shop: Bookshop;
let clients: BookshopClients;
let userId: string;
before(async () => {
  shop = await startBookshop({ env: { ORDER_TIMEOUT: `${ORDER_TIMEOUT_MS}ms` } });
  clients = clientsAt(shop.url);
  const { user } = await clients.users.createUser({ username: "ada", email: "ada@example.com" });
  userId = user!.id;
});
after(() => shop.close());

test("an order whose books are set aside too late is cancelled, and its stock is released", async () => {
  const book = await newBook(5);
  const release = shop.holdEvents();
  const id = await place(book, 2);
  await shop.stop("book");
  release();
  assert.deepEqual(outcome(await end(id)), [CANCELLED, TIMED_OUT]);
  await shop.start("book");
  await shop.logs.book.line({ order_id: id, msg: "stock released" });
  await shop.logs.order.line({ order_id: id, msg: "stock of a cancelled order is given back" });
  assert.equal(await stockOf(book), 5);
});

test("of many orders around their timeout each ends, and what is not sold is in stock", async () => {
  const stock = [50, 60, 70];
  const books = await Promise.all(stock.map(newBook));
  const ids: string[] = [];
  for (let round = 0; round < 6; round++) {
    const release = shop.holdEvents();
    const placed = await Promise.all(Array.from({ length: 10 }, (_, n) => place(books[n % 3]!, 1 + (n % 3))));
    ids.push(...placed);
    // In the middle rounds reservations and timeouts meet.
    await sleep((round * ORDER_TIMEOUT_MS) / 4);
    if (round === 3) await shop.stop("book");
    release();
    if (round === 3) await shop.start("book");
  }
  const orders = await Promise.all(ids.map(end));
  const outcomes = new Set(orders.map((order) => order.status));
  assert.deepEqual(outcomes, new Set([CONFIRMED, CANCELLED]));
  const sold = new Map<string, number>();
  for (const { status, items } of orders) {
    for (const { bookId, quantity } of items) {
      if (status === CONFIRMED) sold.set(bookId, (sold.get(bookId) ?? 0) + quantity);
    }
  }
  const expected = books.map((id, n) => stock[n]! - (sold.get(id) ?? 0));
  await until("the stock to be whole", async () => {
    const left = await Promise.all(books.map(stockOf));
    return left.join() === expected.join();
  });
  // Of nothing that comes late the stock changes again.
  for (let n = 0; n < 3; n++) await end(await place(await newBook(1), 1));
  assert.deepEqual(await Promise.all(books.map(stockOf)), expected);
  for (const queue of QUEUES) assert.deepEqual(shop.broker.deadLetters(queue), [], queue);
});

function outcome({ status, cancelReason }: Order) {
  return [status, cancelReason];
}

async function place(bookId: string, quantity: number): Promise<string> {
  const request = { requestId: randomUUID(), userId, items: [{ bookId, quantity }] };
  const { order } = await clients.orders.createOrder(request);
  return order!.id;
}

async function newBook(stock: number): Promise<string> {
  const book = { title: `Title ${randomUUID()}`, author: "A", priceCents: 100n, requestId: randomUUID() };
  return (await clients.books.createBook({ ...book, stock })).book!.id;
}

async function stockOf(id: string): Promise<number> {
  return (await clients.books.getBook({ id })).book!.stock;
}

async function end(id: string): Promise<Order> {
  const updates = await within(Array.fromAsync(clients.orders.watchOrder({ id })), "the order's end", 30_000);
  return updates.at(-1)!.order!;
}
