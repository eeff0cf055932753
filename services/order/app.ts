import { createDatabase, type Embedded } from "#shared/database";
import { createRegistration } from "#shared/discovery";
import { createEventBus, createInbox, createOutbox, type InProcessBroker } from "#shared/event-bus";
import { type App, createLifecycle, createReadiness, warnOfRestart } from "#shared/lifecycle";
import { createLogger, type Logger } from "#shared/logging";
import { createAdminServer, createServer } from "#shared/server";
import { createTransportPool } from "#shared/transport-pool";
import { createOrderChanges } from "./changes.ts";
import type { OrderConfig } from "./config.ts";
import { orderConsumers, orderEvents } from "./events.ts";
import { migrations } from "./migrations.ts";
import { createOrders, type Orders } from "./orders.ts";
import { peersOf } from "./peers.ts";
import { createOrderRepository, type OrderTables } from "./repository.ts";
import { orderRoutes } from "./routes.ts";
import { createSettle } from "./settlement.ts";

/** What several services in one process share, and tests replace. */
export interface OrderAppOverrides {
  readonly logger?: Logger;
  readonly embedded?: Embedded;
  /** Instead of the app's own, when the configuration has no RabbitMQ. */
  readonly broker?: InProcessBroker;
}

export interface OrderApp extends App {
  /** Where it listens, once started. */
  readonly url: string;
  /** Calls to come go by the `grpc_clients` of this configuration; for its other parts a warning asks for a restart. */
  reconfigure(config: OrderConfig): void;
  /** The use cases, for what runs in the same process. */
  readonly orders: Orders;
  /** Resolves once the database can be used: `start` does not wait for it. */
  ready(signal?: AbortSignal): Promise<void>;
}

/** How long a stop waits for handlers that run; what they have not done comes again. */
const CONSUMERS_STOP_MS = 10_000;

/**
 * order-service, made of its parts.
 *
 * @throws RangeError when user-service or book-service is not configured
 */
export function createOrderApp(config: OrderConfig, overrides: OrderAppOverrides = {}): OrderApp {
  const { logger = createLogger({ name: config.server.name, config: config.log }), embedded, broker } = overrides;
  const { name: source } = config.server;
  const readiness = createReadiness();
  const database = createDatabase<OrderTables>({
    config: config.database,
    schema: "orders",
    migrations,
    logger,
    readiness,
    ...(embedded === undefined ? {} : { embedded }),
  });
  const { db } = database;
  const pool = createTransportPool(config.grpcClients, { logger, caller: source, discovery: config.discovery });
  const bus = createEventBus({
    config: config.rabbitmq,
    source,
    logger,
    readiness,
    ...(broker === undefined ? {} : { broker }),
  });
  const outbox = createOutbox({ db, bus, config: config.rabbitmq, source, logger });
  const inbox = createInbox<OrderTables>({ db, logger, config: config.rabbitmq });
  const events = orderEvents(outbox);
  const changes = createOrderChanges();
  const orders = createOrders({
    repository: createOrderRepository(db, events),
    peers: peersOf(pool),
    changes,
    watchIntervalMs: config.watchIntervalMs,
  });
  const consumers = orderConsumers({
    bus,
    inbox,
    settleIn: (tx) => createSettle({ repository: createOrderRepository(tx, events), logger }),
    changes,
  });
  const server = createServer({ config: config.server, logger, readiness, routes: orderRoutes(orders) });
  const admin = createAdminServer({ config: config.admin, logger, pages: { "/debug/pool": () => pool.states() } });

  const lifecycle = createLifecycle({ logger });
  lifecycle.add({ name: "database", start: () => database.start(), stop: () => database.close() });
  lifecycle.add({ name: "transport pool", start: () => pool.connect(), stop: () => pool.close() });
  lifecycle.add({ name: "admin server", start: () => admin.start(), stop: () => admin.stop() });
  lifecycle.add({ name: "event bus", start: (signal) => bus.start(signal), stop: (signal) => bus.close(signal) });
  lifecycle.add({ name: "inbox", start: () => inbox.start(), stop: () => inbox.stop() });
  lifecycle.add({ name: "outbox", start: () => outbox.start(), stop: (signal) => outbox.stop(signal) });
  lifecycle.add({
    name: "server",
    start: () => server.start(),
    stop: (signal) => server.stop(signal),
    stopTimeoutMs: server.stopTimeoutMs,
  });
  lifecycle.add({
    name: "consumers",
    start: async () => {
      for (const consumer of consumers) await consumer.start();
    },
    stop: async (signal) => {
      await Promise.all(consumers.map((consumer) => consumer.close(signal)));
    },
    stopTimeoutMs: CONSUMERS_STOP_MS,
  });
  if (config.registration !== undefined) {
    const registration = createRegistration(config.registration, { discovery: config.discovery, logger });
    lifecycle.add({
      name: "registration",
      // Nobody is to call an instance that cannot answer yet, as while its database is away.
      start: () => {
        readiness.onceReady(() => registration.start());
      },
      stop: (signal) => registration.stop(signal),
    });
  }

  return {
    logger,
    orders,
    start: () => lifecycle.start(),
    stop: () => lifecycle.stop(),
    reconfigure(next) {
      pool.update(next.grpcClients);
      warnOfRestart({ logger, inForce: config, next, taken: ["grpcClients"] });
    },
    ready: (signal) => database.ready(signal),
    get url() {
      return server.url;
    },
  };
}
