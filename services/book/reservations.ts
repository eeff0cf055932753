import type { Logger } from "#shared/logging";
import type { BookRepository } from "./books.ts";

/** What has to be known of an order to set its books aside. */
export interface PlacedOrder {
  readonly id: string;
  /** Each book once. */
  readonly items: readonly { readonly bookId: string; readonly quantity: number }[];
}

export type Reservation = { readonly outcome: "RESERVED" } | ({ readonly outcome: "REJECTED" } & Shortage);

/** The first book of an order of which there were too few. */
export interface Shortage {
  readonly bookId: string;
  readonly requested: number;
  /** 0 also when there is no such book. */
  readonly available: number;
}

/** Sets an order's books aside, or finds that it cannot; once, however often it is asked. */
export type Reserve = (order: PlacedOrder) => Promise<void>;

export interface ReserveOptions {
  readonly repository: Pick<BookRepository, "reserve">;
  readonly logger: Logger;
}

export function createReserve({ repository, logger }: ReserveOptions): Reserve {
  return async (order) => {
    const reservation = await repository.reserve(order);
    if (reservation.outcome === "RESERVED") logger.info({ order_id: order.id }, "stock reserved");
    else {
      const { bookId, requested, available } = reservation;
      logger.info({ order_id: order.id, book_id: bookId, requested, available }, "stock rejected");
    }
  };
}
