// The whole bookshop: four apps, one database, everything through the gateway.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { OrderStatus } from "#gen/order/v1/order_pb.ts";
import { within } from "#shared/testing";
import { type Bookshop, startBookshop } from "./support/bookshop.ts";
import { type BookshopClients, clientsAt, clientsOn, protocols } from "./support/clients.ts";
import { refusalOf } from "./support/refusal.ts";

let shop: Bookshop;
before(async () => {
  shop = await startBookshop();
});
after(() => shop.close());

for (const [protocol, transportTo] of Object.entries(protocols)) {
  describe(`over ${protocol}`, () => {
    let clients: BookshopClients;
    before(() => {
      clients = clientsOn(transportTo(shop.url));
    });

    test("a user registers and is found again", async () => {
      const user = await newUser(clients, "Ada");
      assert.equal((await clients.users.getUser({ id: user.id })).user?.email, user.email);
      const age = Date.now() / 1_000 - Number(user.createdAt);
      assert.ok(age > -2 && age < 60, `created ${age} s ago, in Unix seconds`);
    });

    test("an order has the titles and prices of the catalogue, and is found again", async () => {
      const user = await newUser(clients);
      const cheap = await newBook(clients, { title: "Cheap", priceCents: 250n });
      const dear = await newBook(clients, { title: "Dear", priceCents: 9_999n });
      const items = [
        { bookId: dear.id, quantity: 1 },
        { bookId: cheap.id, quantity: 3 },
      ];
      const { order } = await clients.orders.createOrder({ requestId: randomUUID(), userId: user.id, items });
      assert.equal(order?.status, OrderStatus.PENDING);
      assert.equal(order.totalCents, 10_749n);
      assert.deepEqual(
        order.items.map(({ title, quantity, unitPriceCents }) => [title, quantity, unitPriceCents]),
        [
          ["Dear", 1, 9_999n],
          ["Cheap", 3, 250n],
        ],
      );
      const confirmed = await settled(clients, order.id);
      const { updatedAt } = confirmed;
      assert.deepEqual(confirmed, { ...order, status: OrderStatus.CONFIRMED, updatedAt });
      assert.deepEqual((await clients.orders.getOrder({ id: order.id })).order, confirmed);
      assert.deepEqual((await clients.orders.listOrders({ userId: user.id })).orders, [confirmed]);
    });

    test("a user is recommended another book of the author that they ordered most, and is greeted with it", async () => {
      const user = await newUser(clients);
      const author = `Author ${randomUUID()}`;
      const [first, second] = [await newBook(clients, { author }), await newBook(clients, { author })];
      await newBook(clients, { author, stock: 0 });
      await newOrder(clients, user.id, first.id);
      const { recommendation, book } = await clients.books.getRecommendation({ userId: user.id });
      assert.equal(book?.id, second.id);
      assert.ok(recommendation.includes(second.title));
      const { message } = await clients.users.sayHello({ name: user.id });
      assert.equal(message, `Hello ${user.id}! ${recommendation}`);
    });

    test("a watched order shows the change of its status, and ends with the final one", async () => {
      const user = await newUser(clients);
      const book = await newBook(clients);
      const release = shop.holdEvents();
      const order = await newOrder(clients, user.id, book.id);
      const seen: OrderStatus[] = [];
      async function watch() {
        for await (const update of clients.orders.watchOrder({ id: order.id })) {
          seen.push(update.order!.status);
          release();
        }
      }
      await within(watch(), "the watch's end");
      assert.deepEqual(seen, [OrderStatus.PENDING, OrderStatus.CONFIRMED]);
    });

    test("a repeated request_id answers what the first created", async (t) => {
      // Or the order might be confirmed in between.
      t.after(shop.holdEvents());
      const [forUser, forBook, forOrder] = [randomUUID(), randomUUID(), randomUUID()];
      const newcomer = { username: "eve", email: `${randomUUID()}@example.com`, requestId: forUser };
      const [user, sameUser] = await twice(() => clients.users.createUser(newcomer));
      assert.deepEqual(sameUser, user);
      const title = { title: "T", author: "A", priceCents: 1n, stock: 5, requestId: forBook };
      const [book, sameBook] = await twice(() => clients.books.createBook(title));
      assert.deepEqual(sameBook, book);
      const items = [{ bookId: book.book!.id, quantity: 1 }];
      const purchase = { requestId: forOrder, userId: user.user!.id, items };
      const [order, sameOrder] = await twice(() => clients.orders.createOrder(purchase));
      assert.deepEqual(sameOrder, order);
      assert.equal((await clients.orders.listOrders({ userId: user.user!.id })).orders.length, 1);
    });
  });
}

for (const protocol of ["connect", "grpc-web"] as const) {
  test(`a gateway that speaks ${protocol} with the services hands on answers, errors and streams`, async (t) => {
    const gateway = await shop.startGateway(protocol);
    t.after(() => gateway.stop());
    const clients = clientsAt(gateway.url);
    const user = await newUser(clients);
    const book = await newBook(clients);
    const release = shop.holdEvents();
    const order = await newOrder(clients, user.id, book.id);
    assert.deepEqual((await clients.orders.getOrder({ id: order.id })).order, order);
    assert.deepEqual(await refusalOf(clients.users.getUser({ id: order.id })), {
      code: "NotFound",
      reason: "USER_NOT_FOUND",
      domain: "user-service",
      metadata: { user_id: order.id },
      fields: [],
    });
    release();
    await settled(clients, order.id);
    const seen: (OrderStatus | undefined)[] = [];
    for await (const { order: now } of clients.orders.watchOrder({ id: order.id })) seen.push(now?.status);
    assert.deepEqual(seen, [OrderStatus.CONFIRMED]);
  });
}

test("a list comes in pages that are whole and in order", async () => {
  const clients = clientsAt(shop.url);
  const user = await newUser(clients);
  const book = await newBook(clients);
  const ordered: string[] = [];
  for (let n = 0; n < 5; n++) ordered.push((await newOrder(clients, user.id, book.id)).id);

  const orders = await pages(2, async (page) => {
    const { orders, nextPageToken } = await clients.orders.listOrders({ userId: user.id, ...page });
    return { ids: orders.map(({ id }) => id), nextPageToken };
  });
  assert.deepEqual(orders.sizes, [2, 2, 1]);
  assert.deepEqual(orders.ids, ordered.toReversed());

  const users = await pages(3, async (page) => {
    const { users, nextPageToken } = await clients.users.listUsers(page);
    return { ids: users.map(({ id }) => id), nextPageToken };
  });
  assert.equal(users.ids.at(-1), user.id);
  assert.deepEqual(users.ids, [...new Set(users.ids)].sort());

  const books = await pages(3, async (page) => {
    const { books, nextPageToken } = await clients.books.listBooks(page);
    return { ids: books.map(({ id }) => id), nextPageToken };
  });
  assert.equal(books.ids.at(-1), book.id);
  assert.deepEqual(books.ids, [...new Set(books.ids)].sort());
});

test("without orders of one's own, one is recommended what is ordered most, else what is newest", async () => {
  const clients = clientsAt(shop.url);
  const stranger = randomUUID();
  const popular = await newBook(clients);
  await newOrder(clients, (await newUser(clients)).id, popular.id, 900);
  const newest = await newBook(clients);
  assert.equal((await clients.books.getRecommendation({ userId: stranger })).book?.id, popular.id);

  await shop.stop("order");
  assert.equal((await clients.books.getRecommendation({ userId: stranger })).book?.id, newest.id);
  await shop.start("order");
});

test("the platform's own paths answer at the gateway, and what it does not serve is unimplemented", async () => {
  assert.equal((await fetch(`${shop.url}/livez`)).status, 200);
  assert.equal((await fetch(`${shop.url}/readyz`)).status, 200);
  const unknown = await fetch(`${shop.url}/user.v1.UserService/DropTables`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  assert.equal(unknown.status, 404);
  assert.equal(((await unknown.json()) as { code: string }).code, "unimplemented");
});

async function newUser({ users }: BookshopClients, username = "user") {
  const { user } = await users.createUser({ username, email: `${randomUUID()}@example.com` });
  return user!;
}

async function newBook({ books }: BookshopClients, book: Partial<Parameters<typeof books.createBook>[0]> = {}) {
  const defaults = { title: `Title ${randomUUID()}`, author: randomUUID(), priceCents: 1_000n, stock: 1_000 };
  const answer = await books.createBook({ ...defaults, requestId: randomUUID(), ...book });
  return answer.book!;
}

async function newOrder({ orders }: BookshopClients, userId: string, bookId: string, quantity = 1) {
  const { order } = await orders.createOrder({ requestId: randomUUID(), userId, items: [{ bookId, quantity }] });
  return order!;
}

/** The order, once its status is final. */
async function settled({ orders }: BookshopClients, id: string) {
  const all = await within(Array.fromAsync(orders.watchOrder({ id })), "the order's end");
  return all.at(-1)!.order!;
}

async function twice<T>(call: () => Promise<T>): Promise<[T, T]> {
  return [await call(), await call()];
}

async function pages(
  pageSize: number,
  list: (page: { pageSize: number; pageToken: string }) => Promise<{ ids: string[]; nextPageToken: string }>,
) {
  const sizes: number[] = [];
  const ids: string[] = [];
  let pageToken = "";
  do {
    const page = await list({ pageSize, pageToken });
    sizes.push(page.ids.length);
    ids.push(...page.ids);
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && sizes.length < 1_000);
  return { sizes, ids };
}
