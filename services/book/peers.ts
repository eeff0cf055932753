import { OrderService } from "#gen/order/v1/order_pb.ts";
import type { TransportPool } from "#shared/transport-pool";
import type { Orders } from "./recommender.ts";

const ORDER_SERVICE = "order-service";
/** How many orders a recommendation looks back on. */
const LAST_ORDERS = 100;
/** A recommendation is asked twice at most, and whoever waits for it would rather have a less personal one. */
const ORDERS_TIMEOUT_MS = 300;

/** Undefined when no order-service is configured. */
export function ordersOfOrderService(pool: TransportPool): Orders | undefined {
  if (!pool.has(ORDER_SERVICE)) return undefined;
  const client = pool.client(ORDER_SERVICE, OrderService);

  async function last(userId: string) {
    const { orders } = await client.listOrders({ userId, pageSize: LAST_ORDERS }, { timeoutMs: ORDERS_TIMEOUT_MS });
    return orders.flatMap(({ items }) => items);
  }

  return { lastOfUser: last, lastOfAll: () => last("") };
}
