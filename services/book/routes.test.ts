import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import type { Client } from "@connectrpc/connect";
import { BookErrorReasonSchema, BookService } from "#gen/book/v1/book_pb.ts";
import { clientOf, refusalOf, silent } from "#shared/testing";
import { type BookErrorReason, createBooks } from "./books.ts";
import { createMemoryRepository } from "./memory-repository.ts";
import type { OrderedBook, Orders } from "./recommender.ts";
import { bookRoutes } from "./routes.ts";

function start(orders?: Orders) {
  const books = createBooks({ repository: createMemoryRepository(), orders, logger: silent });
  return clientOf(BookService, bookRoutes(books));
}

const newBook = (fields: { title?: string; author?: string; priceCents?: bigint; stock?: number } = {}) => ({
  title: "House",
  author: "Tracy Kidder",
  priceCents: 1_399n,
  stock: 4,
  requestId: randomUUID(),
  ...fields,
});

describe("GetRecommendation", () => {
  const down = async () => Promise.reject(new Error("down"));

  /** An order-service that knows the lines of each user's orders. */
  function startOrders() {
    const lines: Record<string, OrderedBook[]> = {};
    const orders: Orders = {
      lastOfUser: async (userId) => lines[userId] ?? [],
      lastOfAll: async () => Object.values(lines).flat(),
    };
    return { lines, orders };
  }

  /** A catalogue, oldest first, by title: `Ann 1` is by Ann; `Ann 2 (0)` is out of stock. */
  async function stocked(client: Client<typeof BookService>, ...titles: string[]): Promise<Record<string, string>> {
    const ids: Record<string, string> = {};
    for (const entry of titles) {
      const [, title = "", author = "", stock = "5"] = /^((\w+) \d+)(?: \((\d+)\))?$/.exec(entry) ?? [];
      const { book } = await client.createBook(newBook({ title, author, stock: Number(stock) }));
      ids[title] = book?.id ?? "";
    }
    return ids;
  }

  const ordered = (ids: Record<string, string>, titles: Record<string, number>) =>
    Object.entries(titles).map(([title, quantity]) => ({ bookId: ids[title] ?? "", quantity }));

  async function recommended(client: Client<typeof BookService>, userId: string): Promise<string | undefined> {
    return (await client.getRecommendation({ userId })).book?.title;
  }

  test("answers a sentence and the book that it names", async () => {
    const client = start();
    const { book } = await client.createBook(newBook());
    const answer = await client.getRecommendation({ userId: "Ada" });
    assert.equal(answer.recommendation, 'We recommend "House" by Tracy Kidder.');
    assert.deepEqual(answer.book, book);
  });

  test("names the newest other book by the author whom the user ordered most", async () => {
    const { lines, orders } = startOrders();
    const client = start(orders);
    const ids = await stocked(client, "Ann 1", "Bob 1", "Bob 2", "Bob 3", "Bob 4 (0)", "Ann 2", "Cid 1");
    lines["Ada"] = ordered(ids, { "Ann 1": 2, "Bob 1": 2, "Bob 3": 1 });
    assert.equal(await recommended(client, "Ada"), "Bob 2");
  });

  test("takes the author ordered last when two are ordered as much", async () => {
    const { lines, orders } = startOrders();
    const client = start(orders);
    const ids = await stocked(client, "Ann 1", "Ann 2", "Bob 1", "Bob 2");
    lines["Ada"] = ordered(ids, { "Ann 1": 1, "Bob 1": 1 });
    assert.equal(await recommended(client, "Ada"), "Ann 2");
  });

  test("names what others order most when the favourite author has nothing more", async () => {
    const { lines, orders } = startOrders();
    const client = start(orders);
    const ids = await stocked(client, "Ann 1", "Bob 1", "Bob 2 (0)", "Cid 1", "Dan 1");
    lines["Ada"] = ordered(ids, { "Ann 1": 9 });
    lines["Eve"] = [...ordered(ids, { "Bob 2": 8, "Cid 1": 2 }), ...ordered(ids, { "Bob 1": 3, "Cid 1": 2 })];
    assert.equal(await recommended(client, "Ada"), "Cid 1");
  });

  test("names what others order most to a user that has ordered nothing, or is a mere name", async () => {
    const { lines, orders } = startOrders();
    const client = start(orders);
    const ids = await stocked(client, "Ann 1", "Bob 1");
    lines["Eve"] = ordered(ids, { "Ann 1": 1 });
    assert.equal(await recommended(client, "Ada"), "Ann 1");
  });

  test("names the newest that the user has not ordered when nobody orders anything else", async () => {
    const { lines, orders } = startOrders();
    const client = start(orders);
    const ids = await stocked(client, "Ann 1", "Bob 1", "Cid 1", "Dan 1 (0)");
    lines["Ada"] = lines["Eve"] = ordered(ids, { "Cid 1": 1 });
    assert.equal(await recommended(client, "Ada"), "Bob 1");
  });

  test("goes on when an ordered book is not in the catalogue", async () => {
    const { lines, orders } = startOrders();
    const client = start(orders);
    const ids = await stocked(client, "Ann 1", "Ann 2");
    lines["Ada"] = [
      { bookId: randomUUID(), quantity: 9 },
      { bookId: "x", quantity: 9 },
      ...ordered(ids, { "Ann 2": 1 }),
    ];
    assert.equal(await recommended(client, "Ada"), "Ann 1");
  });

  test("names the newest when order-service is away, and asks it once", async () => {
    let asked = 0;
    const away = async () => {
      asked++;
      return down();
    };
    const client = start({ lastOfUser: away, lastOfAll: away });
    await stocked(client, "Ann 1", "Bob 1", "Cid 1 (0)");
    assert.equal(await recommended(client, "Ada"), "Bob 1");
    assert.equal(asked, 1);
  });

  test("still leaves out what the user has ordered when order-service goes away in between", async () => {
    const { lines, orders } = startOrders();
    const client = start({ ...orders, lastOfAll: down });
    const ids = await stocked(client, "Ann 1", "Bob 1");
    lines["Ada"] = ordered(ids, { "Bob 1": 1 });
    assert.equal(await recommended(client, "Ada"), "Ann 1");
  });

  test("names the newest when there is no order-service", async () => {
    const client = start();
    await stocked(client, "Ann 1", "Bob 1");
    assert.equal(await recommended(client, "Ada"), "Bob 1");
  });

  test("refuses when nothing is in stock that the user has not ordered", async () => {
    const { lines, orders } = startOrders();
    const client = start(orders);
    const ids = await stocked(client, "Ann 1", "Bob 1 (0)");
    lines["Ada"] = ordered(ids, { "Ann 1": 1 });
    assert.deepEqual(await refusalOf(client.getRecommendation({ userId: "Ada" })), {
      code: "not_found",
      reason: "NO_RECOMMENDATION",
      metadata: {},
      fields: [],
    });
  });
});

describe("CreateBook", () => {
  test("answers the book", async () => {
    const { requestId, ...fields } = newBook();
    const before = Date.now();
    const { book } = await start().createBook({ requestId, ...fields });
    assert.ok(book);
    const { id, title, author, priceCents, stock, createdAt, updatedAt } = book;
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    assert.deepEqual({ title, author, priceCents, stock }, fields);
    assert.ok(createdAt && Number(createdAt.seconds) * 1_000 + createdAt.nanos / 1e6 >= before);
    assert.deepEqual(updatedAt, createdAt);
  });

  test("answers a repeat of the request with the first book", async () => {
    const client = start();
    const request = newBook();
    const first = await client.createBook(request);
    assert.deepEqual(await client.createBook(request), first);
    assert.equal((await client.listBooks({})).books.length, 1);
  });

  test("refuses a request id that was used for other fields", async () => {
    const client = start();
    const request = newBook();
    await client.createBook(request);
    for (const other of [{ title: "Other" }, { author: "Other" }, { priceCents: 1n }, { stock: 1 }]) {
      assert.deepEqual(await refusalOf(client.createBook({ ...request, ...other })), {
        code: "already_exists",
        reason: "REQUEST_ID_REUSED",
        metadata: { request_id: request.requestId },
        fields: [],
      });
    }
  });
});

describe("GetBook", () => {
  test("answers the book", async () => {
    const client = start();
    const { book } = await client.createBook(newBook());
    assert.deepEqual((await client.getBook({ id: book?.id ?? "" })).book, book);
  });

  test("refuses an unknown id", async () => {
    assert.deepEqual(await refusalOf(start().getBook({ id: "nothing" })), {
      code: "not_found",
      reason: "BOOK_NOT_FOUND",
      metadata: { book_id: "nothing" },
      fields: [],
    });
  });
});

describe("ListBooks", () => {
  test("answers 50 a page unless told otherwise, and a token for the next", async () => {
    const client = start();
    for (let n = 0; n < 51; n++) await client.createBook(newBook({ title: `book ${n}` }));
    const first = await client.listBooks({});
    const second = await client.listBooks({ pageToken: first.nextPageToken });
    const titles = [...first.books, ...second.books].map(({ title }) => title);
    assert.deepEqual([first.books.length, second.books.length], [50, 1]);
    assert.deepEqual(
      titles,
      Array.from({ length: 51 }, (_, n) => `book ${n}`),
    );
    assert.equal(second.nextPageToken, "");
    assert.equal((await client.listBooks({ pageSize: 7 })).books.length, 7);
  });

  test("refuses a token that it has not given", async () => {
    const { code, reason } = await refusalOf(start().listBooks({ pageToken: "x" }));
    assert.deepEqual({ code, reason }, { code: "invalid_argument", reason: "PAGE_TOKEN_INVALID" });
  });
});

test("the reasons of the domain are those of the contract", () => {
  const reasons: Record<BookErrorReason, true> = {
    BOOK_NOT_FOUND: true,
    NO_RECOMMENDATION: true,
    REQUEST_ID_REUSED: true,
  };
  const contract = BookErrorReasonSchema.values.map(({ localName }) => localName);
  assert.deepEqual(["UNSPECIFIED", ...Object.keys(reasons)].sort(), contract.sort());
});
