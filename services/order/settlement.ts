import { DomainError } from "#shared/errors";
import type { Logger } from "#shared/logging";
import type { OrderErrorReason, OrderRepository, Settlement } from "./orders.ts";

/**
 * Ends an order by what book-service has decided. The first word holds, however often others come.
 *
 * @throws DomainError ORDER_NOT_FOUND
 */
export type Settle = (orderId: string, settlement: Settlement) => Promise<void>;

export interface SettleOptions {
  readonly repository: Pick<OrderRepository, "find" | "settle">;
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
    if (order.status !== settlement.status) {
      logger.warn({ order_id: orderId, status: order.status, refused: settlement.status }, "order has ended otherwise");
    }
  };
}
