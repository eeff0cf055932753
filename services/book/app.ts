import { createDatabase, type Embedded } from "#shared/database";
import { createRegistration } from "#shared/discovery";
import { createEventBus, createInbox, createOutbox, eventsPage, type InProcessBroker } from "#shared/event-bus";
import { type App, createLifecycle, createReadiness, warnOfRestart } from "#shared/lifecycle";
import { createLogger, type Logger } from "#shared/logging";
import { createAdminServer, createServer } from "#shared/server";
import { createTransportPool } from "#shared/transport-pool";
import { type Books, createBooks } from "./books.ts";
import type { BookConfig } from "./config.ts";
import { bookConsumers, bookEvents } from "./events.ts";
import { migrations, schema } from "./migrations.ts";
import { ordersOfOrderService } from "./peers.ts";
import { type BookTables, createBookRepository } from "./repository.ts";
import { createRelease, createReserve } from "./reservations.ts";
import { bookRoutes } from "./routes.ts";

/** What several services in one process share, and tests replace. */
export interface BookAppOverrides {
  readonly logger?: Logger;
  readonly embedded?: Embedded;
  /** Instead of the app's own, when the configuration has no RabbitMQ. */
  readonly broker?: InProcessBroker;
}

export interface BookApp extends App {
  /** Where it listens, once started. */
  readonly url: string;
  /** Calls to come go by the `grpc_clients` of this configuration; for its other parts a warning asks for a restart. */
  reconfigure(config: BookConfig): void;
  /** The use cases, for what runs in the same process. */
  readonly books: Books;
  /** Resolves once the database can be used: `start` does not wait for it. */
  ready(signal?: AbortSignal): Promise<void>;
  /** Maximum time that a stop takes, in ms. */
  readonly stopTimeoutMs: number;
}

/**
 * Maximum time that the parts of a stop take, in ms, besides the server's. With a drain_delay of up to 5 s all of it fits
 * into the 30 s that Kubernetes gives a pod by default. A handler that takes longer is abandoned, and its event comes
 * again.
 */
const STOP_MS = {
  registration: 1_500,
  consumers: 4_000,
  outbox: 2_000,
  inbox: 1_000,
  bus: 2_000,
  admin: 500,
  pool: 1_000,
  database: 2_000,
} as const;

/** book-service, made of its parts. */
export function createBookApp(config: BookConfig, overrides: BookAppOverrides = {}): BookApp {
  const { logger = createLogger({ name: config.server.name, config: config.log }), embedded, broker } = overrides;
  const { name: source } = config.server;
  const readiness = createReadiness();
  const database = createDatabase<BookTables>({
    config: config.database,
    schema,
    migrations,
    logger,
    readiness,
    ...(embedded === undefined ? {} : { embedded }),
  });
  const { db } = database;
  const pool = createTransportPool(config.grpcClients, {
    logger,
    caller: source,
    discovery: config.discovery,
    closeTimeoutMs: STOP_MS.pool / 2,
  });
  const bus = createEventBus({
    config: config.rabbitmq,
    source,
    logger,
    readiness,
    ...(broker === undefined ? {} : { broker }),
  });
  const outbox = createOutbox({ db, bus, config: config.rabbitmq, source, logger });
  // An order a transaction: batches would lock books in different orders, and deadlock.
  const inbox = createInbox<BookTables>({ db, logger, config: config.rabbitmq, batchSize: 1 });
  const events = bookEvents(outbox);
  const books = createBooks({
    repository: createBookRepository(db, events),
    orders: ordersOfOrderService(pool),
    logger,
  });
  const consumers = bookConsumers({
    bus,
    inbox,
    reserveIn: (tx) => createReserve({ repository: createBookRepository(tx, events), logger }),
    releaseIn: (tx) => createRelease({ repository: createBookRepository(tx, events), logger }),
  });
  const server = createServer({ config: config.server, logger, readiness, routes: bookRoutes(books) });
  const admin = createAdminServer({
    config: config.admin,
    logger,
    pages: { "/debug/pool": () => pool.states(), "/debug/events": eventsPage({ bus, outbox }) },
  });

  const lifecycle = createLifecycle({ logger });
  lifecycle.add({
    name: "database",
    start: () => database.start(),
    stop: () => database.close(),
    stopTimeoutMs: STOP_MS.database,
  });
  lifecycle.add({
    name: "transport pool",
    start: () => pool.connect(),
    stop: () => pool.close(),
    stopTimeoutMs: STOP_MS.pool,
  });
  lifecycle.add({
    name: "admin server",
    start: () => admin.start(),
    stop: () => admin.stop(),
    stopTimeoutMs: STOP_MS.admin,
  });
  lifecycle.add({
    name: "event bus",
    start: (signal) => bus.start(signal),
    stop: (signal) => bus.close(signal),
    stopTimeoutMs: STOP_MS.bus,
  });
  lifecycle.add({
    name: "inbox",
    start: () => inbox.start(),
    stop: () => inbox.stop(),
    stopTimeoutMs: STOP_MS.inbox,
  });
  lifecycle.add({
    name: "outbox",
    start: () => outbox.start(),
    stop: (signal) => outbox.stop(signal),
    stopTimeoutMs: STOP_MS.outbox,
  });
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
    stopTimeoutMs: STOP_MS.consumers,
  });
  if (config.registration !== undefined) {
    const registration = createRegistration(config.registration, { discovery: config.discovery, logger });
    lifecycle.add({
      name: "registration",
      // An instance that cannot serve yet, as while its database is away, is not listed.
      start: () => {
        readiness.onceReady(() => registration.start());
      },
      stop: (signal) => registration.stop(signal),
      stopTimeoutMs: STOP_MS.registration,
    });
  }

  return {
    logger,
    books,
    start: () => lifecycle.start(),
    stop: () => lifecycle.stop(),
    stopTimeoutMs: lifecycle.stopTimeoutMs,
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
