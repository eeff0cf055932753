import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { v7 as uuid } from "uuid";
import { encodePageToken } from "#shared/database";
import { databaseForTest, postgresForTest } from "#shared/testing";
import type { Book, BookRepository } from "./books.ts";
import { createMemoryRepository } from "./memory-repository.ts";
import { migrations } from "./migrations.ts";
import { type BookTables, createBookRepository } from "./repository.ts";

const implementations: Record<string, (t: TestContext) => Promise<BookRepository | undefined>> = {
  memory: async () => createMemoryRepository(),
  PGlite: async (t) => createBookRepository((await databaseForTest<BookTables>(t, { migrations })).db),
  async PostgreSQL(t) {
    const url = await postgresForTest(t);
    return url === undefined
      ? undefined
      : createBookRepository((await databaseForTest<BookTables>(t, { migrations, url })).db);
  },
};

let clock = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const bookOf = (title: string, fields: Partial<Book> = {}): Book => {
  const now = new Date(clock++);
  const book = { id: uuid(), title, author: "Ann", priceCents: 1_999n, stock: 3, initialStock: 3 };
  return { ...book, createdAt: now, updatedAt: now, ...fields };
};

for (const [name, open] of Object.entries(implementations)) {
  describe(name, () => {
    const contract = (sentence: string, check: (repository: BookRepository) => Promise<void>) =>
      test(sentence, async (t) => {
        const repository = await open(t);
        if (repository !== undefined) await check(repository);
      });
    const store = (repository: BookRepository, book: Book) => repository.create(book, randomUUID());

    contract("a book that is stored is found as it was", async (repository) => {
      const book = bookOf("Å “quoted” \\ 'title'", { priceCents: 100_000_000n, stock: 0 });
      assert.deepEqual(await store(repository, book), book);
      assert.deepEqual(await repository.find(book.id), book);
    });

    contract("an unknown id finds nothing, whatever it looks like", async (repository) => {
      const known = await store(repository, bookOf("known"));
      const ids = [uuid(), "x", "", `${known.id}0`, "\0"];
      for (const id of ids) assert.equal(await repository.find(id), undefined);
      assert.deepEqual(await repository.findAll(ids), []);
    });

    contract("a second creation by the same request answers the first book and stores nothing", async (repository) => {
      const requestId = randomUUID();
      const first = await repository.create(bookOf("first"), requestId);
      assert.deepEqual(await repository.create(bookOf("second"), requestId), first);
      assert.deepEqual((await repository.list({ size: 10, token: "" })).books, [first]);
    });

    contract("creations by the same request at the same moment store one book", async (repository) => {
      const requestId = randomUUID();
      const create = () => repository.create(bookOf("one"), requestId);
      const books = await Promise.all(Array.from({ length: 8 }, create));
      assert.equal(new Set(books.map(({ id }) => id)).size, 1);
      assert.deepEqual((await repository.list({ size: 10, token: "" })).books, [books[0]]);
    });

    contract("several are found at once, in no order", async (repository) => {
      const [one, , three] = [
        await store(repository, bookOf("one")),
        await store(repository, bookOf("two")),
        await store(repository, bookOf("three")),
      ];
      const found = await repository.findAll([three.id, uuid(), one.id, one.id]);
      assert.deepEqual(found.map(({ title }) => title).sort(), ["one", "three"]);
      assert.deepEqual(await repository.findAll([]), []);
    });

    contract("as many are looked for at once as a hundred full orders hold", async (repository) => {
      const book = await store(repository, bookOf("one"));
      const many = Array.from({ length: 5_000 }, () => uuid());
      assert.deepEqual(await repository.findAll([...many, book.id]), [book]);
      assert.deepEqual(await repository.findNewestInStock({ except: many }), book);
    });

    contract("the newest in stock is the last one stored that is left, of its author if asked", async (repository) => {
      const old = await store(repository, bookOf("old"));
      const ann = await store(repository, bookOf("newer"));
      const bob = await store(repository, bookOf("newest", { author: "Bob" }));
      await store(repository, bookOf("gone", { stock: 0 }));
      assert.deepEqual(await repository.findNewestInStock({ except: [] }), bob);
      assert.deepEqual(await repository.findNewestInStock({ except: [bob.id, "x"] }), ann);
      assert.deepEqual(await repository.findNewestInStock({ author: "Ann", except: [] }), ann);
      assert.deepEqual(await repository.findNewestInStock({ author: "Ann", except: [ann.id] }), old);
      assert.equal(await repository.findNewestInStock({ author: "Ann", except: [ann.id, old.id] }), undefined);
      assert.equal(await repository.findNewestInStock({ author: "Cid", except: [] }), undefined);
    });

    contract("pages hold every book once, oldest first, and the last has no token", async (repository) => {
      const stored: Book[] = [];
      for (const title of ["a", "b", "c", "d", "e"]) stored.push(await store(repository, bookOf(title)));
      const pages: (readonly Book[])[] = [];
      let token = "";
      do {
        const page = await repository.list({ size: 2, token });
        pages.push(page.books);
        token = page.nextToken;
      } while (token !== "");
      assert.deepEqual(pages, [stored.slice(0, 2), stored.slice(2, 4), stored.slice(4)]);
      assert.equal((await repository.list({ size: 5, token: "" })).nextToken, "");
    });

    contract("a token of another list is refused", async (repository) => {
      for (const token of ["x", encodePageToken("users", [uuid()])]) {
        const refusal = { code: "invalid_argument", reason: "PAGE_TOKEN_INVALID" };
        await assert.rejects(repository.list({ size: 1, token }), refusal);
      }
    });
  });
}
