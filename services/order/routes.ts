import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { OrderCancelReason, type OrderSchema, OrderService, OrderStatus } from "#gen/order/v1/order_pb.ts";
import type { Routes } from "#shared/server";
import type { Order, Orders } from "./orders.ts";

const DEFAULT_PAGE_SIZE = 50;

export function orderRoutes(orders: Orders): Routes {
  return (router, draining) =>
    router.service(OrderService, {
      async createOrder({ userId, items, requestId }) {
        return { order: toProto(await orders.create({ userId, items, requestId })) };
      },

      async getOrder({ id }) {
        return { order: toProto(await orders.get(id)) };
      },

      async listOrders({ pageSize, pageToken, userId }) {
        const size = pageSize || DEFAULT_PAGE_SIZE;
        const page = await orders.list({ size, token: pageToken, ...(userId === "" ? {} : { userId }) });
        return { orders: page.orders.map(toProto), nextPageToken: page.nextToken };
      },

      async *watchOrder({ id }, { signal }) {
        const ending = AbortSignal.any([signal, draining]);
        for await (const order of orders.watch(id, ending)) yield { order: toProto(order) };
      },
    });
}

function toProto(order: Order): MessageInitShape<typeof OrderSchema> {
  const { id, userId, items, totalCents, status, cancelReason = "UNSPECIFIED", createdAt, updatedAt } = order;
  return {
    id,
    userId,
    items: [...items],
    totalCents,
    status: OrderStatus[status],
    cancelReason: OrderCancelReason[cancelReason],
    createdAt: timestampFromDate(createdAt),
    updatedAt: timestampFromDate(updatedAt),
  };
}
