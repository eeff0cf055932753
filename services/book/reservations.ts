import type { Logger } from "#shared/logging";
import type { BookRepository } from "./books.ts";

/** An order and the books that it is for. */
export interface OrderedBooks {
  readonly id: string;
  /** Each book once. */
  readonly items: readonly { readonly bookId: string; readonly quantity: number }[];
}

/** RELEASED: the order was cancelled, and holds no stock. */
export type Reservation =
  | { readonly outcome: "RESERVED" }
  | { readonly outcome: "RELEASED" }
  | ({ readonly outcome: "REJECTED" } & Shortage);

/** The first book of an order of which there were too few. */
export interface Shortage {
  readonly bookId: string;
  readonly requested: number;
  /** 0 also when there is no such book. */
  readonly available: number;
}

/** Sets an order's books aside, or finds that it cannot; once, however often it is called. */
export type Reserve = (order: OrderedBooks) => Promise<void>;

/** Gives the books of a cancelled order back; once, however often it is called, also before they are set aside. */
export type Release = (order: OrderedBooks) => Promise<void>;

export interface ReservationOptions {
  readonly repository: Pick<BookRepository, "reserve" | "release">;
  readonly logger: Logger;
}

export function createReserve({ repository, logger }: ReservationOptions): Reserve {
  return async (order) => {
    const reservation = await repository.reserve(order);
    if (reservation.outcome === "RESERVED") logger.info({ order_id: order.id }, "stock reserved");
    else if (reservation.outcome === "RELEASED") logger.info({ order_id: order.id }, "order was cancelled before");
    else {
      const { bookId, requested, available } = reservation;
      logger.info({ order_id: order.id, book_id: bookId, requested, available }, "stock rejected");
    }
  };
}

export function createRelease({ repository, logger }: ReservationOptions): Release {
  return async (order) => {
    if (await repository.release(order)) logger.info({ order_id: order.id }, "stock released");
  };
}
