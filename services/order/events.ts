import type { Transaction } from "kysely";
import { StockRejectedSchema, StockReservedSchema } from "#gen/book/v1/book_events_pb.ts";
import { OrderCancelledSchema, OrderConfirmedSchema, OrderPlacedSchema } from "#gen/order/v1/order_events_pb.ts";
import { OrderCancelReason } from "#gen/order/v1/order_pb.ts";
import type { EventBus, EventConsumer, Inbox, Outbox } from "#shared/event-bus";
import type { OrderChanges } from "./changes.ts";
import type { OrderEvents, OrderTables } from "./repository.ts";
import type { Settle } from "./settlement.ts";

/** What order-service publishes. */
export function orderEvents(outbox: Outbox): OrderEvents {
  return {
    placed: (tx, { id, userId, items }) =>
      outbox.add(
        tx,
        OrderPlacedSchema,
        { orderId: id, userId, items: items.map(({ bookId, quantity }) => ({ bookId, quantity })) },
        { key: id },
      ),

    confirmed: (tx, { id, userId }) => outbox.add(tx, OrderConfirmedSchema, { orderId: id, userId }, { key: id }),

    cancelled: (tx, { id, userId }, reason) =>
      outbox.add(tx, OrderCancelledSchema, { orderId: id, userId, reason: OrderCancelReason[reason] }, { key: id }),
  };
}

/** What its queue is for. */
export const orderServiceConsumes = [StockReservedSchema, StockRejectedSchema] as const;

export interface OrderConsumersOptions {
  readonly bus: EventBus;
  readonly inbox: Inbox<OrderTables>;
  /** The use case, in a handler's transaction. */
  readonly settleIn: (tx: Transaction<OrderTables>) => Settle;
  readonly changes: Pick<OrderChanges, "tell">;
}

/** What order-service consumes. */
export function orderConsumers({ bus, inbox, settleIn, changes }: OrderConsumersOptions): readonly EventConsumer[] {
  return [
    bus.consume({
      events: orderServiceConsumes,
      guard: inbox,
      handlers: {
        "book.v1.StockReserved": ({ orderId }, { tx }) => settleIn(tx)(orderId, { status: "CONFIRMED" }),
        "book.v1.StockRejected": ({ orderId }, { tx }) =>
          settleIn(tx)(orderId, { status: "CANCELLED", cancelReason: "OUT_OF_STOCK" }),
      },
    }),
    // Each replica has its own watches, and so its own queue: an event of one replica is news to all.
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
