import type { Transaction } from "kysely";
import { StockRejectedSchema, StockReservedSchema } from "#gen/book/v1/book_events_pb.ts";
import { OrderPlacedSchema } from "#gen/order/v1/order_events_pb.ts";
import type { EventBus, EventConsumer, Inbox, Outbox } from "#shared/event-bus";
import type { BookEvents, BookTables } from "./repository.ts";
import type { Reserve } from "./reservations.ts";

/** What book-service publishes. */
export function bookEvents(outbox: Outbox): BookEvents {
  return {
    reserved: (tx, orderId) => outbox.add(tx, StockReservedSchema, { orderId }, { key: orderId }),
    rejected: (tx, orderId, { bookId, requested, available }) =>
      outbox.add(tx, StockRejectedSchema, { orderId, bookId, requested, available }, { key: orderId }),
  };
}

/** What its queue is for. */
export const bookServiceConsumes = [OrderPlacedSchema] as const;

export interface BookConsumersOptions {
  readonly bus: EventBus;
  readonly inbox: Inbox<BookTables>;
  /** The use case, in a handler's transaction. */
  readonly reserveIn: (tx: Transaction<BookTables>) => Reserve;
}

/** What book-service consumes. */
export function bookConsumers({ bus, inbox, reserveIn }: BookConsumersOptions): readonly EventConsumer[] {
  return [
    bus.consume({
      events: bookServiceConsumes,
      guard: inbox,
      handlers: {
        "order.v1.OrderPlaced": ({ orderId, items }, { tx }) => reserveIn(tx)({ id: orderId, items }),
      },
    }),
  ];
}
