import { BookService } from "#gen/book/v1/book_pb.ts";
import type { TransportPool } from "#shared/transport-pool";
import type { Recommend } from "./users.ts";

const BOOK_SERVICE = "book-service";

/** Undefined when no book-service is configured. */
export function recommendByBookService(pool: TransportPool): Recommend | undefined {
  if (!pool.has(BOOK_SERVICE)) return undefined;
  const books = pool.client(BOOK_SERVICE, BookService);
  return async (userId) => (await books.getRecommendation({ userId })).recommendation;
}
