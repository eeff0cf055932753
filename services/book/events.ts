import type { Transaction } from "kysely";
import { StockRejectedSchema, StockReservedSchema } from "#gen/book/v1/book_events_pb.ts";
import { OrderCancelledSchema, OrderPlacedSchema } from "#gen/order/v1/order_events_pb.ts";
import type { EventBus, EventConsumer, Inbox, Outbox } from "#shared/event-bus";
import type { BookEvents, BookTables } from "./repository.ts";
import type { Release, Reserve } from "./reservations.ts";

/** What book-service publishes. */
export function bookEvents(outbox: Outbox): BookEvents {
  return {
    reserved: (tx, orderId) => outbox.add(tx, StockReservedSchema, { orderId }, { key: orderId }),
    rejected: (tx, orderId, { bookId, requested, available }) =>
      outbox.add(tx, StockRejectedSchema, { orderId, bookId, requested, available }, { key: orderId }),
  };
}

/** What its queue is for. */
export const bookServiceConsumes = [OrderPlacedSchema, OrderCancelledSchema] as const;

export interface BookConsumersOptions {
  readonly bus: EventBus;
  readonly inbox: Inbox<BookTables>;
  /** The use cases, in a handler's transaction. */
  readonly reserveIn: (tx: Transaction<BookTables>) => Reserve;
  readonly releaseIn: (tx: Transaction<BookTables>) => Release;
}

/** What book-service consumes. */
export function bookConsumers({ bus, inbox, reserveIn, releaseIn }: BookConsumersOptions): readonly EventConsumer[] {
  return [
    bus.consume({
      events: bookServiceConsumes,
      guard: inbox,
      handlers: {
        "order.v1.OrderPlaced": ({ orderId, items }, { tx }) => reserveIn(tx)({ id: orderId, items }),
        // Whatever the reason: an order that was rejected holds nothing that could be given back.
        "order.v1.OrderCancelled": ({ orderId, items }, { tx }) => releaseIn(tx)({ id: orderId, items }),
      },
    }),
  ];
}
