import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { v7 as uuid } from "uuid";
import { StockRejectedSchema, StockReservedSchema } from "#gen/book/v1/book_events_pb.ts";
import { BookService } from "#gen/book/v1/book_pb.ts";
import {
  type OrderCancelled,
  OrderCancelledSchema,
  type OrderConfirmed,
  OrderConfirmedSchema,
  type OrderPlaced,
  OrderPlacedSchema,
} from "#gen/order/v1/order_events_pb.ts";
import { OrderCancelReason, OrderService, OrderStatus } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { currentCall, startTrace } from "#shared/call-context";
import {
  createEventBus,
  createInProcessBroker,
  type EventBusStates,
  type EventContext,
  type EventEnvelope,
  type InProcessBroker,
  rabbitmqSection,
} from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { clientAt, embeddedForTest, recordLog, silent, startPeer, until, within } from "#shared/testing";
import { createOrderApp } from "./app.ts";
import { orderConfigSection } from "./config.ts";

const QUEUE = "order_service_queue";
const ada = { id: uuid(), username: "ada" };
const house = { id: uuid(), title: "House", priceCents: 1_399n, stock: 4 };

/** The app, its peers, and the book-service that hears it and answers as the test says. */
async function start(t: TestContext, orderTimeout = "15m") {
  const broker = createInProcessBroker();
  t.after(() => broker.close());
  const books = await startBooks(t, broker);
  const peers = await startPeers(t);
  const startReplica = () => startApp(t, broker, peers.url, orderTimeout);
  return { broker, books, startReplica, ...(await startReplica()) };
}

/** Both peers at one address. */
const startPeers = (t: TestContext) =>
  startPeer(t, ({ service }) => {
    service(UserService, { getUser: () => ({ user: ada }) });
    service(BookService, { getBook: () => ({ book: house }) });
  });

async function startApp(t: TestContext, broker: InProcessBroker, peers: string, orderTimeout = "15m") {
  const config = orderConfigSection.parse({
    server: { name: "order-service", host: "127.0.0.1", port: 0 },
    grpc_clients: {
      services: [
        { name: "user-service", address: peers },
        { name: "book-service", address: peers },
      ],
    },
    rabbitmq: { exchange: "bookshop", queue: QUEUE, routing_key: "book.stock.*", retry: { delays: ["1ms", "1ms"] } },
    // A test that waits for it fails.
    watch_interval: "1h",
    order_timeout: orderTimeout,
  });
  const log = recordLog();
  const app = createOrderApp(config, { logger: log.logger, embedded: await embeddedForTest(), broker });
  await app.start();
  t.after(() => app.stop());
  await app.ready(AbortSignal.timeout(20_000));
  return { app, log, client: clientAt(t, app.url, OrderService) };
}

/** An event as it came. */
interface Heard {
  readonly event: OrderPlaced | OrderConfirmed | OrderCancelled;
  readonly key: string;
  readonly source: string;
  readonly traceId: string | undefined;
}

async function startBooks(t: TestContext, broker: InProcessBroker) {
  const config = rabbitmqSection.parse({ exchange: "bookshop", queue: "book_service_queue" });
  const bus = createEventBus({ config, source: "book-service", logger: silent, readiness: createReadiness(), broker });
  const heard: Heard[] = [];
  const hear = (event: Heard["event"], { key, source }: EventContext) =>
    void heard.push({ event, key, source, traceId: currentCall()?.trace.traceId });
  const consumer = bus.consume({
    events: [OrderPlacedSchema, OrderConfirmedSchema, OrderCancelledSchema],
    handlers: { "order.v1.OrderPlaced": hear, "order.v1.OrderConfirmed": hear, "order.v1.OrderCancelled": hear },
  });
  await bus.start();
  await consumer.start();
  t.after(async () => {
    await consumer.close();
    await bus.close();
  });
  return {
    bus,
    /** What was heard of an order, once there are so many. */
    async heard(orderId: string, count: number) {
      const matching = () => heard.filter(({ event }) => event.orderId === orderId);
      await until(`${count} events`, () => matching().length >= count);
      return matching();
    },
    reserve: (orderId: string) => bus.publish(StockReservedSchema, { orderId }, { key: orderId }),
    reject: (orderId: string) =>
      bus.publish(StockRejectedSchema, { orderId, bookId: house.id, requested: 2, available: 1 }, { key: orderId }),
  };
}

const newOrder = () => ({
  requestId: randomUUID(),
  userId: ada.id,
  items: [{ bookId: house.id, quantity: 2 }],
});

/** As it lies in a queue. */
const reservedEnvelope = (orderId: string): EventEnvelope => ({
  id: randomUUID(),
  type: StockReservedSchema.typeName,
  source: "book-service",
  timeMs: Date.now(),
  key: orderId,
  routingKey: "book.stock.reserved",
  mustBeRouted: true,
  contentType: "application/protobuf",
  body: toBinary(StockReservedSchema, create(StockReservedSchema, { orderId })),
  context: {},
});

describe("an order that is placed", () => {
  test("is announced once, in the caller's trace, however often it is asked for", async (t) => {
    const { books, client } = await start(t);
    const { traceId, spanId } = startTrace();
    const headers = { traceparent: `00-${traceId}-${spanId}-01` };
    const request = newOrder();
    const { order } = await client.createOrder(request, { headers });
    await client.createOrder(request);
    await books.reserve(order!.id);
    const [placed, next] = await books.heard(order!.id, 2);
    const event = create(OrderPlacedSchema, { orderId: order!.id, userId: ada.id, items: request.items });
    assert.deepEqual(placed, { event, key: order!.id, source: "order-service", traceId });
    assert.equal(next?.event.$typeName, "order.v1.OrderConfirmed");
  });

  test("is confirmed when its stock is reserved, and that is announced", async (t) => {
    const { books, client, log } = await start(t);
    const { order } = await client.createOrder(newOrder());
    await books.reserve(order!.id);
    const [, confirmed] = await books.heard(order!.id, 2);
    assert.deepEqual(confirmed?.event, create(OrderConfirmedSchema, { orderId: order!.id, userId: ada.id }));
    assert.equal(confirmed?.key, order!.id);
    const { order: now } = await client.getOrder({ id: order!.id });
    assert.deepEqual([now?.status, now?.cancelReason], [OrderStatus.CONFIRMED, OrderCancelReason.UNSPECIFIED]);
    const { trace_id: traceId } = await log.line({ level: "info", msg: "order confirmed", order_id: order!.id });
    assert.equal(confirmed?.traceId, traceId);
  });

  test("is cancelled when its stock is rejected, and that is announced with the reason", async (t) => {
    const { books, client, log } = await start(t);
    const { order } = await client.createOrder(newOrder());
    await books.reject(order!.id);
    const [, cancelled] = await books.heard(order!.id, 2);
    const reason = OrderCancelReason.OUT_OF_STOCK;
    const items = [{ bookId: house.id, quantity: 2 }];
    const event = create(OrderCancelledSchema, { orderId: order!.id, userId: ada.id, reason, items });
    assert.deepEqual(cancelled?.event, event);
    assert.equal(cancelled?.key, order!.id);
    const { order: now } = await client.getOrder({ id: order!.id });
    assert.deepEqual([now?.status, now?.cancelReason], [OrderStatus.CANCELLED, reason]);
    await log.line({ level: "info", msg: "order cancelled", order_id: order!.id });
  });

  test("ends once: of later words, and of copies, nothing is announced", async (t) => {
    const { broker, books, client, log } = await start(t);
    const [{ order }, { order: other }] = [await client.createOrder(newOrder()), await client.createOrder(newOrder())];
    const reserved = reservedEnvelope(order!.id);
    await Promise.all([books.bus.send(reserved), books.bus.send(reserved)]);
    await books.reserve(order!.id);
    await books.reject(order!.id);
    await log.line({ level: "warn", order_id: order!.id, refused: "CANCELLED" });
    await books.reserve(other!.id);
    await books.heard(other!.id, 2);
    assert.deepEqual(
      (await books.heard(order!.id, 2)).map(({ event }) => event.$typeName),
      ["order.v1.OrderPlaced", "order.v1.OrderConfirmed"],
    );
    assert.equal((await client.getOrder({ id: order!.id })).order?.status, OrderStatus.CONFIRMED);
    assert.deepEqual(broker.deadLetters(QUEUE), []);
  });
});

describe("an order whose time is over", () => {
  const reason = OrderCancelReason.TIMED_OUT;

  test("is cancelled when it is pending, and that is announced with its items, for the stock to be released", async (t) => {
    const { books, client, log } = await start(t, "100ms");
    const { order } = await client.createOrder(newOrder());
    const [, cancelled] = await books.heard(order!.id, 2);
    const items = [{ bookId: house.id, quantity: 2 }];
    const event = create(OrderCancelledSchema, { orderId: order!.id, userId: ada.id, reason, items });
    assert.deepEqual(cancelled?.event, event);
    const { order: now } = await client.getOrder({ id: order!.id });
    assert.deepEqual([now?.status, now?.cancelReason], [OrderStatus.CANCELLED, reason]);
    await log.line({ level: "warn", msg: "order timed out", order_id: order!.id });
  });

  test("is cancelled also while its OrderPlaced cannot be published", async (t) => {
    const broker = createInProcessBroker();
    t.after(() => broker.close());
    const { client } = await startApp(t, broker, (await startPeers(t)).url, "100ms");
    const { order } = await client.createOrder(newOrder());
    await until("the end", async () => {
      const { order: now } = await client.getOrder({ id: order!.id });
      return now?.status === OrderStatus.CANCELLED && now.cancelReason === reason;
    });
  });

  test("has its stock released again when that is reserved too late", async (t) => {
    const { books, client, broker } = await start(t, "100ms");
    const { order } = await client.createOrder(newOrder());
    await books.heard(order!.id, 2);
    await books.reserve(order!.id);
    const [, first, second] = await books.heard(order!.id, 3);
    assert.deepEqual(second, { ...first, traceId: second?.traceId });
    assert.equal((await client.getOrder({ id: order!.id })).order?.cancelReason, reason);
    assert.deepEqual(broker.deadLetters(QUEUE), []);
  });

  test("stays as it is when it has ended before", async (t) => {
    const { books, client, log } = await start(t, "500ms");
    const { order } = await client.createOrder(newOrder());
    await books.reserve(order!.id);
    await books.heard(order!.id, 2);
    const { url } = await log.line({ msg: "admin pages" });
    await until("the timeout to be handled", async () => {
      const { bus } = (await (await fetch(`${url}/debug/events`)).json()) as { readonly bus: EventBusStates };
      return bus.consumers.find(({ queue }) => queue === QUEUE)?.counts.handled === 2;
    });
    assert.equal((await client.getOrder({ id: order!.id })).order?.status, OrderStatus.CONFIRMED);
  });
});

test("word of an unknown order is tried again, and is a dead letter in the end", async (t) => {
  const { broker, books } = await start(t);
  const id = uuid();
  await books.reserve(id);
  await until("a dead letter", () => broker.deadLetters(QUEUE).length > 0);
  const [letter] = broker.deadLetters(QUEUE);
  assert.deepEqual([letter?.envelope.key, letter?.attempts, letter?.reason], [id, 3, "attempts_exhausted"]);
});

test("a watch sees a change as soon as it is announced, at every replica", async (t) => {
  const { books, client, startReplica } = await start(t);
  const replica = await startReplica();
  const { order } = await client.createOrder(newOrder());
  let begun = 0;
  const watches = [client, replica.client].map(async (one) => {
    const statuses: (OrderStatus | undefined)[] = [];
    for await (const { order: now } of one.watchOrder({ id: order!.id.toUpperCase() })) {
      if (statuses.push(now?.status) === 1) begun++;
    }
    return statuses;
  });
  await until("both watches to begin", () => begun === 2);
  await books.reserve(order!.id);
  const seen = [OrderStatus.PENDING, OrderStatus.CONFIRMED];
  assert.deepEqual(await within(Promise.all(watches), "the watches' end"), [seen, seen]);
});

test("a stop ends in time, and what had not been heard is published after the next start", async (t) => {
  const broker = createInProcessBroker();
  t.after(() => broker.close());
  const peers = await startPeers(t);
  const first = await startApp(t, broker, peers.url);
  const { order } = await first.client.createOrder(newOrder());
  await first.log.line({ level: "warn", event_type: OrderPlacedSchema.typeName, error: "EVENT_UNROUTABLE" });
  await within(first.app.stop(), "the stop", 5_000);

  const books = await startBooks(t, broker);
  await startApp(t, broker, peers.url);
  assert.equal((await books.heard(order!.id, 1))[0]?.event.$typeName, OrderPlacedSchema.typeName);
});
