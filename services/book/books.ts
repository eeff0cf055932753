import { v7 as uuid } from "uuid";
import { DomainError } from "#shared/errors";
import type { Logger } from "#shared/logging";
import { createRecommender, type Orders } from "./recommender.ts";
import type { OrderedBooks, Reservation } from "./reservations.ts";

export interface Book {
  readonly id: string;
  readonly title: string;
  readonly author: string;
  readonly priceCents: bigint;
  /** How many can be sold. */
  readonly stock: number;
  /** How many there were when it was added. */
  readonly initialStock: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** The reasons of this domain's errors: book.v1.BookErrorReason. */
export type BookErrorReason = "BOOK_NOT_FOUND" | "NO_RECOMMENDATION" | "REQUEST_ID_REUSED";

export interface BookRepository {
  /** Stores the book. When `requestId` has stored one before, answers that one instead. */
  create(book: Book, requestId: string): Promise<Book>;
  find(id: string): Promise<Book | undefined>;
  /** Those that there are, in no order. */
  findAll(ids: readonly string[]): Promise<Book[]>;
  /** Of all authors, or of one. */
  findNewestInStock(filter: { author?: string; except: readonly string[] }): Promise<Book | undefined>;
  /** Takes all of the order's books out of the stock, or none of them. The second time it returns what the first did. */
  reserve(order: OrderedBooks): Promise<Reservation>;
  /**
   * Puts the order's books back into the stock, if they are reserved. From then on the order is RELEASED, and a later
   * `reserve` takes nothing.
   *
   * @returns whether they were reserved
   */
  release(order: OrderedBooks): Promise<boolean>;
  /** Oldest first. @throws DomainError PAGE_TOKEN_INVALID */
  list(page: { size: number; token: string }): Promise<BookPage>;
}

export interface BookPage {
  readonly books: readonly Book[];
  /** Empty on the last page. */
  readonly nextToken: string;
}

export interface Recommendation {
  readonly sentence: string;
  readonly book: Book;
}

export interface Books {
  recommend(userId: string): Promise<Recommendation>;
  create(book: { title: string; author: string; priceCents: bigint; stock: number; requestId: string }): Promise<Book>;
  get(id: string): Promise<Book>;
  list(page: { size: number; token: string }): Promise<BookPage>;
}

export interface BooksOptions {
  readonly repository: BookRepository;
  /** Undefined when there is no order-service to ask. */
  readonly orders: Orders | undefined;
  readonly logger: Logger;
}

export function createBooks({ repository, orders, logger }: BooksOptions): Books {
  const recommendFor = createRecommender({ repository, orders, logger });

  return {
    async recommend(userId) {
      const book = await recommendFor(userId);
      if (book === undefined) {
        throw new DomainError(
          "not_found",
          "NO_RECOMMENDATION" satisfies BookErrorReason,
          "nothing is in stock that the user has not ordered",
        );
      }
      return { sentence: `We recommend "${book.title}" by ${book.author}.`, book };
    },

    async create({ title, author, priceCents, stock, requestId }) {
      const now = new Date();
      const book = await repository.create(
        { id: uuid(), title, author, priceCents, stock, initialStock: stock, createdAt: now, updatedAt: now },
        requestId,
      );
      const isSame =
        book.title === title && book.author === author && book.priceCents === priceCents && book.initialStock === stock;
      if (!isSame) {
        throw new DomainError(
          "already_exists",
          "REQUEST_ID_REUSED" satisfies BookErrorReason,
          "this request_id created a book from other fields",
          { metadata: { request_id: requestId } },
        );
      }
      return book;
    },

    async get(id) {
      const book = await repository.find(id);
      if (book === undefined) {
        throw new DomainError("not_found", "BOOK_NOT_FOUND" satisfies BookErrorReason, "there is no such book", {
          metadata: { book_id: id },
        });
      }
      return book;
    },

    list: (page) => repository.list(page),
  };
}
