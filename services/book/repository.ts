import { type Kysely, type Selectable, sql } from "kysely";
import { validate as isUuid } from "uuid";
import { decodePageToken, encodePageToken, violatedConstraint } from "#shared/database";
import type { Book, BookRepository } from "./books.ts";

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
}

export function createBookRepository(db: Kysely<BookTables>): BookRepository {
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
