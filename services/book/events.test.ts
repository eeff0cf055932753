import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { v7 as uuid } from "uuid";
import {
  type StockRejected,
  StockRejectedSchema,
  type StockReserved,
  StockReservedSchema,
} from "#gen/book/v1/book_events_pb.ts";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderCancelledSchema, OrderPlacedSchema } from "#gen/order/v1/order_events_pb.ts";
import { OrderCancelReason } from "#gen/order/v1/order_pb.ts";
import { currentCall } from "#shared/call-context";
import {
  createEventBus,
  createInProcessBroker,
  type EventContext,
  type EventEnvelope,
  type InProcessBroker,
  rabbitmqSection,
} from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { clientAt, embeddedForTest, recordLog, silent, until } from "#shared/testing";
import { createBookApp } from "./app.ts";
import { bookConfigSection } from "./config.ts";

/** The app, and the order-service that hears it. */
async function start(t: TestContext) {
  const broker = createInProcessBroker();
  t.after(() => broker.close());
  const orders = await startOrders(t, broker);
  const config = bookConfigSection.parse({
    server: { name: "book-service", host: "127.0.0.1", port: 0 },
    rabbitmq: { exchange: "bookshop", queue: "book_service_queue", routing_key: "order.placed" },
  });
  const log = recordLog();
  const app = createBookApp(config, { logger: log.logger, embedded: await embeddedForTest(), broker });
  await app.start();
  t.after(() => app.stop());
  await app.ready(AbortSignal.timeout(20_000));
  return { broker, orders, log, client: clientAt(t, app.url, BookService) };
}

/** An event as it came. */
interface Heard {
  readonly event: StockReserved | StockRejected;
  readonly key: string;
  readonly source: string;
  readonly traceId: string | undefined;
}

async function startOrders(t: TestContext, broker: InProcessBroker) {
  const config = rabbitmqSection.parse({ exchange: "bookshop", queue: "order_service_queue" });
  const bus = createEventBus({ config, source: "order-service", logger: silent, readiness: createReadiness(), broker });
  const heard: Heard[] = [];
  const hear = (event: Heard["event"], { key, source }: EventContext) =>
    void heard.push({ event, key, source, traceId: currentCall()?.trace.traceId });
  const consumer = bus.consume({
    events: [StockReservedSchema, StockRejectedSchema],
    handlers: { "book.v1.StockReserved": hear, "book.v1.StockRejected": hear },
  });
  await bus.start();
  await consumer.start();
  t.after(async () => {
    await consumer.close();
    await bus.close();
  });
  return {
    bus,
    /** What was heard of these orders, once there are so many. */
    async heard(orderIds: readonly string[], count: number) {
      const matching = () => heard.filter(({ event }) => orderIds.includes(event.orderId));
      await until(`${count} events`, () => matching().length >= count);
      return matching();
    },
  };
}

async function newBook(client: Client<typeof BookService>, stock: number): Promise<string> {
  const fields = { title: `Book ${randomUUID()}`, author: "Ann", priceCents: 1n, requestId: randomUUID() };
  const { book } = await client.createBook({ ...fields, stock });
  return book!.id;
}

const stockOf = async (client: Client<typeof BookService>, id: string) => (await client.getBook({ id })).book?.stock;

type Line = readonly [bookId: string, quantity: number];

/** An OrderCancelled as it lies in a queue. */
function cancelled(orderId: string, ...lines: readonly Line[]): EventEnvelope {
  const items = lines.map(([bookId, quantity]) => ({ bookId, quantity }));
  const event = { orderId, userId: randomUUID(), reason: OrderCancelReason.TIMED_OUT, items };
  return {
    ...placed(orderId, ...lines),
    type: OrderCancelledSchema.typeName,
    routingKey: "order.cancelled",
    body: toBinary(OrderCancelledSchema, create(OrderCancelledSchema, event)),
  };
}

/** An OrderPlaced as it lies in a queue. */
function placed(orderId: string, ...lines: readonly Line[]): EventEnvelope {
  const items = lines.map(([bookId, quantity]) => ({ bookId, quantity }));
  return {
    id: randomUUID(),
    type: OrderPlacedSchema.typeName,
    source: "order-service",
    timeMs: Date.now(),
    key: orderId,
    routingKey: "order.placed",
    mustBeRouted: true,
    contentType: "application/protobuf",
    body: toBinary(OrderPlacedSchema, create(OrderPlacedSchema, { orderId, userId: randomUUID(), items })),
    context: {},
  };
}

describe("an order that is placed", () => {
  test("has its books set aside, and that is announced, in the order's trace", async (t) => {
    const { orders, log, client } = await start(t);
    const [one, two] = [await newBook(client, 5), await newBook(client, 2)];
    const [orderId, traceId] = [uuid(), randomUUID().replaceAll("-", "")];
    const context = { traceparent: `00-${traceId}-00f067aa0ba902b7-01` };
    await orders.bus.send({ ...placed(orderId, [one, 3], [two, 2]), context });
    const [reserved] = await orders.heard([orderId], 1);
    const event = create(StockReservedSchema, { orderId });
    assert.deepEqual(reserved, { event, key: orderId, source: "book-service", traceId });
    assert.deepEqual([await stockOf(client, one), await stockOf(client, two)], [2, 0]);
    await log.line({ level: "info", msg: "stock reserved", order_id: orderId, trace_id: traceId });
  });

  test("of which one book is short takes none, and that is announced", async (t) => {
    const { orders, log, client } = await start(t);
    const [one, two] = [await newBook(client, 5), await newBook(client, 1)];
    const orderId = uuid();
    await orders.bus.send(placed(orderId, [one, 3], [two, 2]));
    const [rejected] = await orders.heard([orderId], 1);
    const shortage = { bookId: two, requested: 2, available: 1 };
    assert.deepEqual(rejected?.event, create(StockRejectedSchema, { orderId, ...shortage }));
    assert.equal(rejected?.key, orderId);
    assert.deepEqual([await stockOf(client, one), await stockOf(client, two)], [5, 1]);
    await log.line({ level: "info", msg: "stock rejected", order_id: orderId, book_id: two });
  });

  test("takes its books once, however often it comes: a copy is not heard, another word of it is answered", async (t) => {
    const { orders, client } = await start(t);
    const book = await newBook(client, 10);
    const [orderId, last] = [uuid(), uuid()];
    const envelope = placed(orderId, [book, 2]);
    await Promise.all([envelope, envelope, envelope].map((copy) => orders.bus.send(copy)));
    await Promise.all([1, 2].map(() => orders.bus.send(placed(orderId, [book, 2]))));
    await orders.bus.send(placed(last, [book, 1]));
    await orders.heard([last], 1);
    const heard = await orders.heard([orderId], 3);
    assert.deepEqual(
      heard.map(({ event }) => event.$typeName),
      Array(3).fill("book.v1.StockReserved"),
    );
    assert.equal(await stockOf(client, book), 7);
  });
});

test("of many orders at the same moment as many are reserved as there are books", async (t) => {
  const { broker, orders, client } = await start(t);
  const [one, two] = [await newBook(client, 7), await newBook(client, 7)];
  const ids = Array.from({ length: 20 }, () => uuid());
  await Promise.all(
    ids.map((id, n) => {
      const lines: Line[] = [
        [one, 1],
        [two, 1],
      ];
      return orders.bus.send(placed(id, ...(n % 2 === 0 ? lines : lines.toReversed())));
    }),
  );
  const heard = await orders.heard(ids, 20);
  assert.equal(heard.filter(({ event }) => event.$typeName === "book.v1.StockReserved").length, 7);
  assert.deepEqual([await stockOf(client, one), await stockOf(client, two)], [0, 0]);
  assert.deepEqual(broker.deadLetters("book_service_queue"), []);
});

describe("an order that is cancelled", () => {
  test("gives its books back once, however often it comes", async (t) => {
    const { orders, log, client } = await start(t);
    const [one, two] = [await newBook(client, 5), await newBook(client, 2)];
    const [orderId, lines] = [uuid(), [[one, 3] as const, [two, 2] as const]];
    await orders.bus.send(placed(orderId, ...lines));
    await orders.heard([orderId], 1);
    assert.deepEqual([await stockOf(client, one), await stockOf(client, two)], [2, 0]);
    const event = cancelled(orderId, ...lines);
    await Promise.all([event, event, cancelled(orderId, ...lines)].map((copy) => orders.bus.send(copy)));
    await log.line({ level: "info", msg: "stock released", order_id: orderId });
    assert.deepEqual([await stockOf(client, one), await stockOf(client, two)], [5, 2]);
    assert.equal(log.matching({ msg: "stock released" }).length, 1);
  });

  test("before it was handled takes none of its books when it comes, and nothing is announced", async (t) => {
    const { orders, log, client } = await start(t);
    const book = await newBook(client, 5);
    const [orderId, last] = [uuid(), uuid()];
    await orders.bus.send(cancelled(orderId, [book, 3]));
    await orders.bus.send(placed(orderId, [book, 3]));
    await log.line({ level: "info", msg: "order was cancelled before", order_id: orderId });
    await orders.bus.send(placed(last, [book, 1]));
    await orders.heard([last], 1);
    assert.deepEqual(await orders.heard([orderId], 0), []);
    assert.equal(await stockOf(client, book), 4);
  });
});
