import { type Kysely, type Selectable, sql, type Transaction } from "kysely";
import { validate as isUuid } from "uuid";
import { decodePageToken, encodePageToken, inTransaction, violatedConstraint } from "#shared/database";
import type { Book, BookRepository } from "./books.ts";
import type { OrderedBooks, Reservation, Shortage } from "./reservations.ts";

export interface BookTables {
  books: {
    id: string;
    title: string;
    author: string;
    price_cents: bigint;
    stock: number;
    initial_stock: number;
    request_id: string;
    created_at: Date;
    updated_at: Date;
  };
  /** What became of each order. An order that was cancelled before its books were set aside is RELEASED too. */
  reservations: {
    order_id: string;
    outcome: Reservation["outcome"];
    /** The shortage, when it was rejected. */
    book_id: string | null;
    requested: number | null;
    available: number | null;
    created_at: Date;
  };
}

/** What others are told, in the transaction of the change that it tells of. */
export interface BookEvents {
  reserved(tx: Transaction<BookTables>, orderId: string): Promise<void>;
  rejected(tx: Transaction<BookTables>, orderId: string, shortage: Shortage): Promise<void>;
}

/** Publishes every reservation by `events`, a repeated one again. On a transaction it works in that one. */
export function createBookRepository(db: Kysely<BookTables>, events: BookEvents): BookRepository {
  async function findBy(column: "id" | "request_id", value: string): Promise<Book | undefined> {
    const row = await db.selectFrom("books").selectAll().where(column, "=", value).executeTakeFirst();
    return row && toBook(row);
  }

  return {
    async create(book, requestId) {
      try {
        await db.insertInto("books").values(toRow(book, requestId)).execute();
        return book;
      } catch (error) {
        if (violatedConstraint(error) !== "books_request_id_key") throw error;
        const first = await findBy("request_id", requestId);
        if (first === undefined) throw error;
        return first;
      }
    },

    async find(id) {
      return isUuid(id) ? findBy("id", id) : undefined;
    },

    async findAll(ids) {
      const rows = await db
        .selectFrom("books")
        .selectAll()
        .where("id", "=", sql<string>`any(${uuids(ids)})`)
        .execute();
      return rows.map(toBook);
    },

    async findNewestInStock({ author, except }) {
      const row = await db
        .selectFrom("books")
        .selectAll()
        .where("stock", ">", 0)
        .where("id", "!=", sql<string>`all(${uuids(except)})`)
        .$if(author !== undefined, (query) => query.where("author", "=", author ?? ""))
        .orderBy("id", "desc")
        .executeTakeFirst();
      return row && toBook(row);
    },

    reserve(order) {
      return inTransaction(db, async (tx) => {
        const isNew = await record(tx, order.id, "RESERVED");
        const reservation = isNew ? await take(tx, order) : await reservationOf(tx, order.id);
        if (reservation.outcome === "RESERVED") await events.reserved(tx, order.id);
        else if (reservation.outcome === "REJECTED") await events.rejected(tx, order.id, reservation);
        return reservation;
      });
    },

    release(order) {
      return inTransaction(db, async (tx) => {
        if (await record(tx, order.id, "RELEASED")) return false;
        const row = await tx
          .updateTable("reservations")
          .set({ outcome: "RELEASED" })
          .where("order_id", "=", order.id)
          .where("outcome", "=", "RESERVED")
          .returning("order_id")
          .executeTakeFirst();
        if (row === undefined) return false;
        await lockedStock(tx, order);
        await addToStock(tx, order, 1);
        return true;
      });
    },

    async list({ size, token }) {
      const after = decodePageToken("books", token, ["uuid"]);
      const rows = await db
        .selectFrom("books")
        .selectAll()
        .$if(after !== undefined, (query) => query.where("id", ">", after?.[0] ?? ""))
        .orderBy("id")
        .limit(size + 1)
        .execute();
      const books = rows.slice(0, size).map(toBook);
      const last = books.at(-1);
      return { books, nextToken: rows.length > size && last ? encodePageToken("books", [last.id]) : "" };
    },
  };
}

/**
 * Adds the order's row, unless there is one. The row comes before the outcome is known: what another transaction does
 * for the same order waits here for that.
 *
 * @returns whether it was added
 */
async function record(
  tx: Transaction<BookTables>,
  orderId: string,
  outcome: "RESERVED" | "RELEASED",
): Promise<boolean> {
  const row = await tx
    .insertInto("reservations")
    .values({ order_id: orderId, outcome, created_at: new Date() })
    .onConflict((conflict) => conflict.column("order_id").doNothing())
    .returning("order_id")
    .executeTakeFirst();
  return row !== undefined;
}

async function reservationOf(tx: Transaction<BookTables>, orderId: string): Promise<Reservation> {
  const row = await tx.selectFrom("reservations").selectAll().where("order_id", "=", orderId).executeTakeFirstOrThrow();
  const { outcome } = row;
  if (outcome !== "REJECTED") return { outcome };
  return {
    outcome,
    bookId: row.book_id ?? "",
    requested: row.requested ?? 0,
    available: row.available ?? 0,
  };
}

/** Takes all of the order's books, or none. */
async function take(tx: Transaction<BookTables>, order: OrderedBooks): Promise<Reservation> {
  const { id, items } = order;
  const stock = await lockedStock(tx, order);
  for (const { bookId, quantity } of items) {
    const available = stock.get(bookId.toLowerCase()) ?? 0;
    if (available >= quantity) continue;
    const shortage = { book_id: bookId, requested: quantity, available };
    await tx
      .updateTable("reservations")
      .set({ outcome: "REJECTED", ...shortage })
      .where("order_id", "=", id)
      .execute();
    return { outcome: "REJECTED", bookId, requested: quantity, available };
  }
  await addToStock(tx, order, -1);
  return { outcome: "RESERVED" };
}

/**
 * Locks the order's books until the transaction ends, and returns their stock by id. The order of the locks is the same
 * everywhere: two transactions that wait for each other's books would be a deadlock.
 */
async function lockedStock(tx: Transaction<BookTables>, { items }: OrderedBooks): Promise<ReadonlyMap<string, number>> {
  const rows = await tx
    .selectFrom("books")
    .select(["id", "stock"])
    .where("id", "=", sql<string>`any(${uuids(items.map(({ bookId }) => bookId))})`)
    .orderBy("id")
    .forUpdate()
    .execute();
  return new Map(rows.map((row) => [row.id, row.stock]));
}

async function addToStock(tx: Transaction<BookTables>, { items }: OrderedBooks, sign: 1 | -1): Promise<void> {
  const [ids, quantities] = [items.map(({ bookId }) => bookId), items.map(({ quantity }) => sign * quantity)];
  const added = sql<{ id: string; quantity: number }>`unnest(${ids}::uuid[], ${quantities}::int4[])`;
  await tx
    .updateTable("books")
    .from(added.as<"added">(sql`added (id, quantity)`))
    .set((eb) => ({ stock: eb("books.stock", "+", eb.ref("added.quantity")), updated_at: new Date() }))
    .whereRef("books.id", "=", "added.id")
    .execute();
}

/** One parameter, however many they are. */
function uuids(ids: readonly string[]) {
  return sql`${ids.filter((id) => isUuid(id))}::uuid[]`;
}

function toRow(book: Book, requestId: string): BookTables["books"] {
  return {
    id: book.id,
    title: book.title,
    author: book.author,
    price_cents: book.priceCents,
    stock: book.stock,
    initial_stock: book.initialStock,
    request_id: requestId,
    created_at: book.createdAt,
    updated_at: book.updatedAt,
  };
}

function toBook(row: Selectable<BookTables["books"]>): Book {
  return {
    id: row.id,
    title: row.title,
    author: row.author,
    priceCents: row.price_cents,
    stock: row.stock,
    initialStock: row.initial_stock,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
