import { decodePageToken, encodePageToken } from "#shared/database";
import type { Book, BookRepository } from "./books.ts";
import type { OrderedBooks, Reservation } from "./reservations.ts";

/** For tests. It keeps the contract in repository.test.ts, and announces nothing. */
export function createMemoryRepository(): BookRepository {
  const books: Book[] = [];
  const byRequestId = new Map<string, Book>();
  const reservations = new Map<string, Reservation>();

  function add(bookId: string, quantity: number): void {
    const index = books.findIndex(({ id }) => id === bookId);
    const book = books[index];
    if (book !== undefined) books[index] = { ...book, stock: book.stock + quantity, updatedAt: new Date() };
  }

  function take({ items }: OrderedBooks): Reservation {
    for (const { bookId, quantity } of items) {
      const available = books.find(({ id }) => id === bookId)?.stock ?? 0;
      if (available < quantity) return { outcome: "REJECTED", bookId, requested: quantity, available };
    }
    for (const { bookId, quantity } of items) add(bookId, -quantity);
    return { outcome: "RESERVED" };
  }

  return {
    async create(book, requestId) {
      const first = byRequestId.get(requestId);
      if (first !== undefined) return first;
      books.push(book);
      byRequestId.set(requestId, book);
      return book;
    },
    find: async (id) => books.find((book) => book.id === id),
    findAll: async (ids) => books.filter(({ id }) => ids.includes(id)),
    findNewestInStock: async (filter) =>
      books.findLast(
        ({ id, author, stock }) =>
          stock > 0 && !filter.except.includes(id) && (filter.author === undefined || filter.author === author),
      ),
    async reserve(order) {
      const reservation = reservations.get(order.id) ?? take(order);
      reservations.set(order.id, reservation);
      return reservation;
    },
    async release({ id, items }) {
      const before = reservations.get(id);
      if (before?.outcome !== "REJECTED") reservations.set(id, { outcome: "RELEASED" });
      if (before?.outcome !== "RESERVED") return false;
      for (const { bookId, quantity } of items) add(bookId, quantity);
      return true;
    },
    async list({ size, token }) {
      const [from] = decodePageToken("books", token, ["int4"]) ?? [0];
      const to = from + size;
      return { books: books.slice(from, to), nextToken: to < books.length ? encodePageToken("books", [to]) : "" };
    },
  };
}
