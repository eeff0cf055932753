import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { type Kysely, sql } from "kysely";
import { v7 as uuid } from "uuid";
import { encodePageToken } from "#shared/database";
import { databaseForTest, postgresForTest, until } from "#shared/testing";
import type { Book, BookRepository } from "./books.ts";
import { createMemoryRepository } from "./memory-repository.ts";
import { migrations } from "./migrations.ts";
import { type BookEvents, type BookTables, createBookRepository } from "./repository.ts";
import type { OrderedBooks } from "./reservations.ts";

const unheard: BookEvents = { reserved: async () => {}, rejected: async () => {} };

const databases: Record<string, (t: TestContext) => Promise<Kysely<BookTables> | undefined>> = {
  PGlite: async (t) => (await databaseForTest<BookTables>(t, { migrations })).db,
  async PostgreSQL(t) {
    const url = await postgresForTest(t);
    return url === undefined ? undefined : (await databaseForTest<BookTables>(t, { migrations, url })).db;
  },
};

const implementations: Record<string, (t: TestContext) => Promise<BookRepository | undefined>> = {
  memory: async () => createMemoryRepository(),
};
for (const [name, open] of Object.entries(databases)) {
  implementations[name] = async (t) => {
    const db = await open(t);
    return db && createBookRepository(db, unheard);
  };
}

let clock = Date.UTC(2026, 0, 2, 3, 4, 5, 678);
const bookOf = (title: string, fields: Partial<Book> = {}): Book => {
  const now = new Date(clock++);
  const book = { id: uuid(), title, author: "Ann", priceCents: 1_999n, stock: 3, initialStock: 3 };
  return { ...book, createdAt: now, updatedAt: now, ...fields };
};

/** So many of each book. */
const orderOf = (...lines: [book: Pick<Book, "id">, quantity: number][]): OrderedBooks => ({
  id: uuid(),
  items: lines.map(([{ id }, quantity]) => ({ bookId: id, quantity })),
});

for (const [name, open] of Object.entries(implementations)) {
  describe(name, () => {
    const contract = (sentence: string, check: (repository: BookRepository) => Promise<void>) =>
      test(sentence, async (t) => {
        const repository = await open(t);
        if (repository !== undefined) await check(repository);
      });
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

    contract("an order takes its books out of the stock, down to the last one", async (repository) => {
      const one = await store(repository, bookOf("one", { stock: 3 }));
      const two = await store(repository, bookOf("two", { stock: 7 }));
      const other = await store(repository, bookOf("other"));
      assert.deepEqual(await repository.reserve(orderOf([two, 2], [one, 3])), { outcome: "RESERVED" });
      assert.deepEqual(await stockOf(repository, one, two, other), [0, 5, 3]);
      const now = await repository.find(two.id);
      assert.ok(now && now.updatedAt >= two.updatedAt);
      assert.deepEqual(now, { ...two, stock: 5, updatedAt: now.updatedAt });
    });

    contract(
      "an order of more than there are takes none of its books, and names the first short one",
      async (repository) => {
        const one = await store(repository, bookOf("one", { stock: 3 }));
        const two = await store(repository, bookOf("two", { stock: 1 }));
        const three = await store(repository, bookOf("three", { stock: 0 }));
        const shortage = { outcome: "REJECTED", bookId: three.id, requested: 1, available: 0 };
        assert.deepEqual(await repository.reserve(orderOf([one, 3], [three, 1], [two, 2])), shortage);
        const { outcome } = shortage;
        const other = { outcome, bookId: two.id, requested: 2, available: 1 };
        assert.deepEqual(await repository.reserve(orderOf([two, 2], [three, 1])), other);
        assert.deepEqual(await stockOf(repository, one, two, three), [3, 1, 0]);
      },
    );

    contract("of a book that there is not, none are there", async (repository) => {
      const one = await store(repository, bookOf("one"));
      const nothing = { id: uuid() };
      const shortage = { outcome: "REJECTED", bookId: nothing.id, requested: 1, available: 0 };
      assert.deepEqual(await repository.reserve(orderOf([one, 1], [nothing, 1])), shortage);
      assert.deepEqual(await stockOf(repository, one), [3]);
    });

    contract("an order that comes again gets the same answer and takes nothing more", async (repository) => {
      const book = await store(repository, bookOf("one", { stock: 4 }));
      const [taken, short] = [orderOf([book, 3]), orderOf([book, 2])];
      const shortage = { outcome: "REJECTED", bookId: book.id, requested: 2, available: 1 };
      for (let n = 0; n < 3; n++) {
        assert.deepEqual(await repository.reserve(taken), { outcome: "RESERVED" });
        assert.deepEqual(await repository.reserve(short), shortage);
      }
      assert.deepEqual(await stockOf(repository, book), [1]);
    });

    contract("an order that comes many times at the same moment takes its books once", async (repository) => {
      const book = await store(repository, bookOf("one", { stock: 10 }));
      const order = orderOf([book, 3]);
      const answers = await Promise.all(Array.from({ length: 8 }, () => repository.reserve(order)));
      assert.deepEqual([...new Set(answers.map(({ outcome }) => outcome))], ["RESERVED"]);
      assert.deepEqual(await stockOf(repository, book), [7]);
    });

    contract("of two orders of the last copy at the same moment one gets it", async (repository) => {
      const books: Book[] = [];
      for (let n = 0; n < 5; n++) books.push(await store(repository, bookOf(`book ${n}`, { stock: 1 })));
      const orders = books.flatMap((book) => Array.from({ length: 4 }, () => orderOf([book, 1])));
      const answers = await Promise.all(orders.map((order) => repository.reserve(order)));
      assert.equal(answers.filter(({ outcome }) => outcome === "RESERVED").length, 5);
      assert.deepEqual(await stockOf(repository, ...books), [0, 0, 0, 0, 0]);
    });

    contract("orders that name the same books in any order do not stand in each other's way", async (repository) => {
      const books: Book[] = [];
      for (let n = 0; n < 4; n++) books.push(await store(repository, bookOf(`book ${n}`, { stock: 20 })));
      const [a, b, c, d] = books as [Book, Book, Book, Book];
      const orders = Array.from({ length: 24 }, (_, n) =>
        n % 2 === 0 ? orderOf([a, 1], [b, 1], [c, 1], [d, 1]) : orderOf([d, 1], [c, 1], [b, 1], [a, 1]),
      );
      const answers = await Promise.all(orders.map((order) => repository.reserve(order)));
      assert.equal(answers.filter(({ outcome }) => outcome === "RESERVED").length, 20);
      assert.deepEqual(await stockOf(repository, ...books), [0, 0, 0, 0]);
    });

    contract("a reserved order that is released gives its books back, once", async (repository) => {
      const [one, two] = [await store(repository, bookOf("one", { stock: 5 })), await store(repository, bookOf("two"))];
      const before = await stockOf(repository, one, two);
      const order = orderOf([two, 1], [one, 3]);
      await repository.reserve(order);
      const answers = await Promise.all(Array.from({ length: 8 }, () => repository.release(order)));
      assert.equal(answers.filter((released) => released).length, 1);
      assert.deepEqual(await stockOf(repository, one, two), before);
      assert.deepEqual(await repository.reserve(order), { outcome: "RELEASED" });
      assert.deepEqual(await stockOf(repository, one, two), before);
    });

    contract("an order that is released before it is reserved takes nothing", async (repository) => {
      const book = await store(repository, bookOf("one", { stock: 5 }));
      const order = orderOf([book, 3]);
      assert.equal(await repository.release(order), false);
      assert.deepEqual(await repository.reserve(order), { outcome: "RELEASED" });
      assert.deepEqual(await stockOf(repository, book), [5]);
    });

    contract("an order that was rejected has nothing to give back", async (repository) => {
      const book = await store(repository, bookOf("one", { stock: 1 }));
      const order = orderOf([book, 2]);
      const shortage = { outcome: "REJECTED", bookId: book.id, requested: 2, available: 1 };
      assert.deepEqual(await repository.reserve(order), shortage);
      assert.equal(await repository.release(order), false);
      assert.deepEqual(await repository.reserve(order), shortage);
      assert.deepEqual(await stockOf(repository, book), [1]);
    });

    contract("orders that are reserved and released at the same moment keep the stock whole", async (repository) => {
      const books: Book[] = [];
      for (let n = 0; n < 4; n++) books.push(await store(repository, bookOf(`book ${n}`, { stock: 100 })));
      const [a, b, c, d] = books as [Book, Book, Book, Book];
      const orders = Array.from({ length: 16 }, (_, n) =>
        n % 2 === 0 ? orderOf([a, 1], [b, 2], [c, 3], [d, 4]) : orderOf([d, 4], [c, 3], [b, 2], [a, 1]),
      );
      await Promise.all(orders.flatMap((order) => [repository.reserve(order), repository.release(order)]));
      assert.deepEqual(await stockOf(repository, ...books), [100, 100, 100, 100]);
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

for (const [name, open] of Object.entries(databases)) {
  describe(name, () => {
    test("every reservation is announced in its transaction, a repeated one again", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const heard: unknown[] = [];
      const repository = createBookRepository(db, {
        reserved: async (tx, orderId) => void heard.push([tx.isTransaction, orderId]),
        rejected: async (tx, orderId, { bookId, requested, available }) =>
          void heard.push([tx.isTransaction, orderId, bookId, requested, available]),
      });
      const book = await store(repository, bookOf("one", { stock: 1 }));
      const [taken, short] = [orderOf([book, 1]), orderOf([book, 1])];
      for (const order of [taken, short, short, taken]) await repository.reserve(order);
      const [yes, no] = [
        [true, taken.id],
        [true, short.id, book.id, 1, 0],
      ];
      assert.deepEqual(heard, [yes, no, no, yes]);
    });

    test("a reservation that cannot be announced is not made", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const failure = new Error("the outbox is full");
      const fail = () => Promise.reject(failure);
      const mute = createBookRepository(db, { reserved: fail, rejected: fail });
      const repository = createBookRepository(db, unheard);
      const book = await store(repository, bookOf("one", { stock: 1 }));
      const order = orderOf([book, 1]);
      await assert.rejects(mute.reserve(order), failure);
      await assert.rejects(mute.reserve(orderOf([book, 2])), failure);
      assert.deepEqual(await stockOf(repository, book), [1]);
      assert.deepEqual(await repository.reserve(order), { outcome: "RESERVED" });
    });

    test("on a transaction, all of it is undone with that", async (t) => {
      const db = await open(t);
      if (db === undefined) return;
      const repository = createBookRepository(db, unheard);
      const book = await store(repository, bookOf("one", { stock: 1 }));
      const [first, second] = [orderOf([book, 1]), orderOf([book, 1])];
      const undone = new Error("undone");
      const work = db.transaction().execute(async (tx) => {
        const inside = createBookRepository(tx, unheard);
        assert.equal((await inside.reserve(first)).outcome, "RESERVED");
        assert.equal((await inside.reserve(first)).outcome, "RESERVED");
        throw undone;
      });
      await assert.rejects(work, undone);
      assert.deepEqual(await stockOf(repository, book), [1]);
      assert.equal((await repository.reserve(second)).outcome, "RESERVED");
      assert.equal((await repository.reserve(first)).outcome, "REJECTED");
    });
  });
}

test("an order that is being set aside by another transaction waits for what becomes of it", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const { db } = await databaseForTest<BookTables>(t, { migrations, url });
  const repository = createBookRepository(db, unheard);
  const book = await store(repository, bookOf("one", { stock: 5 }));
  const waiting = sql<{ count: bigint }>`
    select count(*) as count from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'`;
  for (const commits of [false, true]) {
    const order = orderOf([book, 2]);
    let second: ReturnType<BookRepository["reserve"]> | undefined;
    const first = db.transaction().execute(async (tx) => {
      await createBookRepository(tx, unheard).reserve(order);
      second = repository.reserve(order);
      await until("the second to wait", async () => (await waiting.execute(db)).rows[0]?.count === 1n);
      if (!commits) throw new Error("undone");
    });
    await first.catch(() => {});
    assert.deepEqual(await second, { outcome: "RESERVED" });
  }
  assert.deepEqual(await stockOf(repository, book), [1]);
});

function store(repository: BookRepository, book: Book): Promise<Book> {
  return repository.create(book, randomUUID());
}

async function stockOf(repository: BookRepository, ...books: readonly Book[]): Promise<(number | undefined)[]> {
  return Promise.all(books.map(async ({ id }) => (await repository.find(id))?.stock));
}
