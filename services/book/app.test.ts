import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { type ListOrdersRequest, type ListOrdersResponseSchema, OrderService } from "#gen/order/v1/order_pb.ts";
import {
  clientAt,
  deadUrl,
  embeddedForTest,
  never,
  refusalOf,
  serverDeadline,
  silent,
  startPeer,
  within,
} from "#shared/testing";
import { createBookApp } from "./app.ts";
import { bookConfigSection } from "./config.ts";

/** The app on any port; `orders` is where order-service is. */
async function start(t: TestContext, orders?: string) {
  const config = bookConfigSection.parse({
    server: { name: "book-service", host: "127.0.0.1", port: 0 },
    grpc_clients: {
      services: orders === undefined ? [] : [{ name: "order-service", address: orders, timeout: "30s" }],
    },
  });
  const app = createBookApp(config, { logger: silent, embedded: await embeddedForTest() });
  await app.start();
  const client = clientAt(t, app.url, BookService);
  t.after(() => app.stop());
  await app.ready(AbortSignal.timeout(20_000));
  return client;
}

type ListOrdersResponse = MessageInitShape<typeof ListOrdersResponseSchema>;

/** An order-service that can only list. */
const startOrders = (t: TestContext, listOrders: (request: ListOrdersRequest) => Promise<ListOrdersResponse>) =>
  startPeer(t, ({ service }) => service(OrderService, { listOrders }));

const newBook = (fields: { author?: string; stock?: number } = {}) => ({
  title: `Book ${randomUUID()}`,
  author: `Author ${randomUUID()}`,
  priceCents: 1_399n,
  stock: 4,
  requestId: randomUUID(),
  ...fields,
});

describe("GetRecommendation", () => {
  test("asks order-service for the user's last hundred orders, then for everybody's", async (t) => {
    const asked: { userId: string; pageSize: number }[] = [];
    const listed: Record<string, ListOrdersResponse> = {};
    const peer = await startOrders(t, async ({ userId, pageSize }) => {
      asked.push({ userId, pageSize });
      return listed[userId] ?? {};
    });
    const client = await start(t, peer.url);
    const { book: own } = await client.createBook(newBook());
    const { book: popular } = await client.createBook(newBook());
    await client.createBook(newBook());
    const order = (bookId = "", quantity = 1) => ({ items: [{ bookId, quantity }] });
    listed["Ada"] = { orders: [order(own?.id)] };
    listed[""] = { orders: [order(own?.id, 9), order(popular?.id)] };
    assert.deepEqual((await client.getRecommendation({ userId: "Ada" })).book, popular);
    assert.deepEqual(asked, [
      { userId: "Ada", pageSize: 100 },
      { userId: "", pageSize: 100 },
    ]);

    const { book: sameAuthor } = await client.createBook(newBook({ author: own?.author ?? "" }));
    await client.createBook(newBook());
    assert.deepEqual((await client.getRecommendation({ userId: "Ada" })).book, sameAuthor);
    assert.deepEqual(asked.slice(2), [{ userId: "Ada", pageSize: 100 }]);
  });

  test("recommends the newest when order-service is down", async (t) => {
    const client = await start(t, await deadUrl(t));
    const { book } = await client.createBook(newBook());
    for (let n = 0; n < 3; n++) {
      assert.deepEqual((await client.getRecommendation({ userId: "Ada" }, serverDeadline(1_000))).book, book);
    }
  });

  test("recommends the newest within the deadline when order-service never answers", async (t) => {
    const client = await start(t, (await startOrders(t, never)).url);
    const { book } = await client.createBook(newBook());
    for (const ms of [100, 1_000]) {
      assert.deepEqual((await client.getRecommendation({ userId: "Ada" }, serverDeadline(ms))).book, book);
    }
  });

  test("recommends the newest soon when order-service never answers and the caller has all the time", async (t) => {
    const client = await start(t, (await startOrders(t, never)).url);
    const { book } = await client.createBook(newBook());
    const { book: recommended } = await within(client.getRecommendation({ userId: "Ada" }), "an answer");
    assert.deepEqual(recommended, book);
  });

  test("recommends the newest when no order-service is configured", async (t) => {
    const client = await start(t);
    const { book } = await client.createBook(newBook());
    await client.createBook(newBook({ stock: 0 }));
    assert.deepEqual((await client.getRecommendation({ userId: "Ada" })).book, book);
  });
});

test("a book is created, read and listed", async (t) => {
  const client = await start(t);
  const { requestId, ...fields } = newBook();
  const { book } = await client.createBook({ ...fields, requestId });
  assert.ok(book);
  const { title, author, priceCents, stock } = book;
  assert.deepEqual({ title, author, priceCents, stock }, fields);
  assert.deepEqual((await client.getBook({ id: book.id })).book, book);
  const { books } = await client.listBooks({ pageSize: 500 });
  assert.deepEqual(
    books.find(({ id }) => id === book.id),
    book,
  );
});

test("repeats of one request at the same moment create one book", async (t) => {
  const client = await start(t);
  const request = newBook();
  const answers = await Promise.all(Array.from({ length: 8 }, () => client.createBook(request)));
  assert.equal(new Set(answers.map(({ book }) => book?.id)).size, 1);
});

test("requests that break their rules are refused by field", async (t) => {
  const client = await start(t);
  const refused = async (call: Promise<unknown>) => {
    const { code, reason, fields } = await refusalOf(call);
    assert.deepEqual({ code, reason }, { code: "invalid_argument", reason: "VALIDATION_FAILED" });
    return fields;
  };
  assert.deepEqual(await refused(client.getRecommendation({})), ["user_id"]);
  assert.deepEqual(await refused(client.createBook({ priceCents: -1n, stock: -1 })), [
    "request_id",
    "title",
    "author",
    "price_cents",
    "stock",
  ]);
  assert.deepEqual(await refused(client.getBook({})), ["id"]);
  assert.deepEqual(await refused(client.listBooks({ pageSize: -1 })), ["page_size"]);
});
