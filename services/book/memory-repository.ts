import { decodePageToken, encodePageToken } from "#shared/database";
import type { Book, BookRepository } from "./books.ts";

/** For tests. It keeps the contract in repository.test.ts. */
export function createMemoryRepository(): BookRepository {
  const books: Book[] = [];
  const byRequestId = new Map<string, Book>();
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
    async list({ size, token }) {
      const [from] = decodePageToken("books", token, ["int4"]) ?? [0];
      const to = from + size;
      return { books: books.slice(from, to), nextToken: to < books.length ? encodePageToken("books", [to]) : "" };
    },
  };
}
