import type { Logger } from "#shared/logging";
import type { Book, BookRepository } from "./books.ts";

/** One line of an order. */
export interface OrderedBook {
  readonly bookId: string;
  readonly quantity: number;
}

/** What a recommendation must know of orders. Rejects when order-service cannot be asked. */
export interface Orders {
  /** The lines of the user's last orders, newest order first. */
  lastOfUser(userId: string): Promise<readonly OrderedBook[]>;
  /** The lines of everybody's last orders, newest order first. */
  lastOfAll(): Promise<readonly OrderedBook[]>;
}

export interface RecommenderOptions {
  readonly repository: Pick<BookRepository, "findAll" | "findNewestInStock">;
  readonly orders: Orders | undefined;
  readonly logger: Logger;
}

/**
 * Picks a book in stock that the user has not ordered: the newest other one by the author whom the user ordered most,
 * else the most ordered of late, else the newest. While order-service is away, the newest. Undefined when there is none.
 */
export function createRecommender(options: RecommenderOptions): (userId: string) => Promise<Book | undefined> {
  const { repository, orders, logger } = options;

  /** A recommendation goes out whatever becomes of order-service. */
  async function learn(
    lines: Promise<readonly OrderedBook[]> | undefined,
  ): Promise<readonly OrderedBook[] | undefined> {
    try {
      return await lines;
    } catch (err) {
      logger.warn({ error: String(err) }, "recommending without orders");
      return undefined;
    }
  }

  async function byFavouriteAuthor(ordered: readonly OrderedBook[], except: readonly string[]) {
    const authors = new Map((await repository.findAll(except)).map(({ id, author }) => [id, author]));
    const [author] = ranked(ordered.map(({ bookId, quantity }) => [authors.get(bookId), quantity]));
    return author === undefined ? undefined : repository.findNewestInStock({ author, except });
  }

  async function mostOrdered(except: readonly string[]) {
    const lines = (await learn(orders?.lastOfAll())) ?? [];
    const ids = ranked(lines.map(({ bookId, quantity }) => [bookId, quantity])).filter((id) => !except.includes(id));
    const books = new Map((await repository.findAll(ids)).map((book) => [book.id, book]));
    return ids.map((id) => books.get(id)).find((book) => book !== undefined && book.stock > 0);
  }

  return async (userId) => {
    const ordered = await learn(orders?.lastOfUser(userId));
    // An order-service that has just failed is not asked again: the caller is waiting.
    if (ordered === undefined) return repository.findNewestInStock({ except: [] });
    const except = [...new Set(ordered.map(({ bookId }) => bookId))];
    return (
      (await byFavouriteAuthor(ordered, except)) ??
      (await mostOrdered(except)) ??
      (await repository.findNewestInStock({ except }))
    );
  };
}

/** The keys by their sums, the largest first; of equals, the one that came first. An undefined key does not count. */
function ranked(entries: readonly (readonly [key: string | undefined, count: number])[]): string[] {
  const sums = new Map<string, number>();
  for (const [key, count] of entries) {
    if (key !== undefined) sums.set(key, (sums.get(key) ?? 0) + count);
  }
  return [...sums].sort(([, a], [, b]) => b - a).map(([key]) => key);
}
