import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type BookSchema, BookService } from "#gen/book/v1/book_pb.ts";
import type { Routes } from "#shared/server";
import type { Book, Books } from "./books.ts";

const DEFAULT_PAGE_SIZE = 50;

export function bookRoutes(books: Books): Routes {
  return (router) =>
    router.service(BookService, {
      async getRecommendation({ userId }) {
        const { sentence, book } = await books.recommend(userId);
        return { recommendation: sentence, book: toProto(book) };
      },

      async createBook({ title, author, priceCents, stock, requestId }) {
        const book = await books.create({ title, author, priceCents, stock, requestId });
        return { book: toProto(book) };
      },

      async getBook({ id }) {
        return { book: toProto(await books.get(id)) };
      },

      async listBooks({ pageSize, pageToken }) {
        const page = await books.list({ size: pageSize || DEFAULT_PAGE_SIZE, token: pageToken });
        return { books: page.books.map(toProto), nextPageToken: page.nextToken };
      },
    });
}

function toProto(book: Book): MessageInitShape<typeof BookSchema> {
  const { id, title, author, priceCents, stock, createdAt, updatedAt } = book;
  return {
    id,
    title,
    author,
    priceCents,
    stock,
    createdAt: timestampFromDate(createdAt),
    updatedAt: timestampFromDate(updatedAt),
  };
}
