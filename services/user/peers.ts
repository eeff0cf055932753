import { type BookErrorReason, BookService } from "#gen/book/v1/book_pb.ts";
import { fromConnectError } from "#shared/errors";
import type { TransportPool } from "#shared/transport-pool";
import type { Recommend } from "./users.ts";

const BOOK_SERVICE = "book-service";

/** Undefined when no book-service is configured. */
export function recommendByBookService(pool: TransportPool): Recommend | undefined {
  if (!pool.has(BOOK_SERVICE)) return undefined;
  const books = pool.client(BOOK_SERVICE, BookService);
  return async (userId) => {
    try {
      return (await books.getRecommendation({ userId })).recommendation;
    } catch (error) {
      if (fromConnectError(error)?.reason === ("NO_RECOMMENDATION" satisfies keyof typeof BookErrorReason)) {
        return undefined;
      }
      throw error;
    }
  };
}
