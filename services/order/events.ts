import type { Transaction } from "kysely";
import { StockRejectedSchema, StockReservedSchema } from "#gen/book/v1/book_events_pb.ts";
import {
  OrderCancelledSchema,
  OrderConfirmedSchema,
  OrderPlacedSchema,
  OrderTimeoutElapsedSchema,
} from "#gen/order/v1/order_events_pb.ts";
import { OrderCancelReason } from "#gen/order/v1/order_pb.ts";
import type { EventBus, EventConsumer, Inbox, Outbox } from "#shared/event-bus";
import type { OrderChanges } from "./changes.ts";
import type { OrderEvents, OrderTables } from "./repository.ts";
import type { Settle, TimeOut } from "./settlement.ts";

export interface OrderEventsOptions {
  readonly outbox: Outbox;
  /** Time after which an order that is still PENDING is cancelled, in ms. */
  readonly orderTimeoutMs: number;
}

/** What order-service publishes. */
export function orderEvents({ outbox, orderTimeoutMs }: OrderEventsOptions): OrderEvents {
  return {
    async placed(tx, { id, userId, items, createdAt }) {
      const placedItems = items.map(({ bookId, quantity }) => ({ bookId, quantity }));
      await outbox.add(tx, OrderPlacedSchema, { orderId: id, userId, items: placedItems }, { key: id });
      // Without the key: it must not wait for an OrderPlaced that cannot be published.
      const notBefore = new Date(createdAt.getTime() + orderTimeoutMs);
      await outbox.add(tx, OrderTimeoutElapsedSchema, { orderId: id }, { notBefore });
    },

    confirmed: (tx, { id, userId }) => outbox.add(tx, OrderConfirmedSchema, { orderId: id, userId }, { key: id }),

    cancelled: (tx, { id, userId, reason, items }) =>
      outbox.add(
        tx,
        OrderCancelledSchema,
        { orderId: id, userId, reason: OrderCancelReason[reason], items: [...items] },
        { key: id },
      ),
  };
}

/** The events that the service's queue is bound by. */
export const orderServiceConsumes = [StockReservedSchema, StockRejectedSchema, OrderTimeoutElapsedSchema] as const;

export interface OrderConsumersOptions {
  readonly bus: EventBus;
  readonly inbox: Inbox<OrderTables>;
  /** The use cases, in a handler's transaction. */
  readonly settleIn: (tx: Transaction<OrderTables>) => Settle;
  readonly timeOutIn: (tx: Transaction<OrderTables>) => TimeOut;
  readonly changes: Pick<OrderChanges, "tell">;
}

/** What order-service consumes. */
export function orderConsumers(options: OrderConsumersOptions): readonly EventConsumer[] {
  const { bus, inbox, settleIn, timeOutIn, changes } = options;
  return [
    bus.consume({
      events: orderServiceConsumes,
      guard: inbox,
      handlers: {
        "book.v1.StockReserved": ({ orderId }, { tx }) => settleIn(tx)(orderId, { status: "CONFIRMED" }),
        "book.v1.StockRejected": ({ orderId }, { tx }) =>
          settleIn(tx)(orderId, { status: "CANCELLED", cancelReason: "OUT_OF_STOCK" }),
        "order.v1.OrderTimeoutElapsed": ({ orderId }, { tx }) => timeOutIn(tx)(orderId),
      },
    }),
    // Each replica has watches of its own, and so a queue of its own: an event of one replica concerns all.
    bus.consume({
      events: [OrderConfirmedSchema, OrderCancelledSchema],
      ephemeral: true,
      handlers: {
        "order.v1.OrderConfirmed": ({ orderId }) => changes.tell(orderId),
        "order.v1.OrderCancelled": ({ orderId }) => changes.tell(orderId),
      },
    }),
  ];
}
