import { DomainError } from "#shared/errors";
import type { Logger } from "#shared/logging";
import type { OrderErrorReason, OrderRepository, Settlement } from "./orders.ts";

/**
 * Ends an order by what book-service has decided. The first decision holds, however often others come. Stock that is
 * reserved for an order that has been cancelled is given back.
 *
 * @throws DomainError ORDER_NOT_FOUND
 */
export type Settle = (orderId: string, settlement: Settlement) => Promise<void>;

/** Cancels an order that is still PENDING when its time is over. */
export type TimeOut = (orderId: string) => Promise<void>;

export interface SettleOptions {
  readonly repository: Pick<OrderRepository, "find" | "settle" | "announceCancelled">;
  readonly logger: Logger;
}

export function createSettle({ repository, logger }: SettleOptions): Settle {
  return async (orderId, settlement) => {
    if (await repository.settle(orderId, settlement)) {
      logger.info({ order_id: orderId }, settlement.status === "CONFIRMED" ? "order confirmed" : "order cancelled");
      return;
    }
    const order = await repository.find(orderId);
    if (order === undefined) {
      throw new DomainError("not_found", "ORDER_NOT_FOUND" satisfies OrderErrorReason, "there is no such order", {
        metadata: { order_id: orderId },
      });
    }
    if (order.status === settlement.status) return;
    if (order.status === "CANCELLED" && (await repository.announceCancelled(orderId))) {
      logger.info({ order_id: orderId, cancel_reason: order.cancelReason }, "stock of a cancelled order is given back");
    } else {
      logger.warn({ order_id: orderId, status: order.status, refused: settlement.status }, "order has ended otherwise");
    }
  };
}

export function createTimeOut({ repository, logger }: SettleOptions): TimeOut {
  return async (orderId) => {
    if (await repository.settle(orderId, { status: "CANCELLED", cancelReason: "TIMED_OUT" })) {
      logger.warn({ order_id: orderId }, "order timed out");
    }
  };
}
