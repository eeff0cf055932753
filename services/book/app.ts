import { createDatabase, type Embedded } from "#shared/database";
import { type App, createLifecycle, createReadiness } from "#shared/lifecycle";
import { createLogger, type Logger } from "#shared/logging";
import { createServer } from "#shared/server";
import { createTransportPool } from "#shared/transport-pool";
import { type Books, createBooks } from "./books.ts";
import type { BookConfig } from "./config.ts";
import { migrations } from "./migrations.ts";
import { ordersOfOrderService } from "./peers.ts";
import { type BookTables, createBookRepository } from "./repository.ts";
import { bookRoutes } from "./routes.ts";

/** What several services in one process share, and tests replace. */
export interface BookAppOverrides {
  readonly logger?: Logger;
  readonly embedded?: Embedded;
}

export interface BookApp extends App {
  /** Where it listens, once started. */
  readonly url: string;
  /** The use cases, for what runs in the same process. */
  readonly books: Books;
  /** Resolves once the database can be used: `start` does not wait for it. */
  ready(signal?: AbortSignal): Promise<void>;
}

/** book-service, made of its parts. */
export function createBookApp(config: BookConfig, overrides: BookAppOverrides = {}): BookApp {
  const { logger = createLogger({ name: config.server.name, config: config.log }), embedded } = overrides;
  if (config.rabbitmq?.enabled) logger.warn("rabbitmq is configured, and this version does not carry it out");
  const readiness = createReadiness();
  const database = createDatabase<BookTables>({
    config: config.database,
    schema: "books",
    migrations,
    logger,
    readiness,
    ...(embedded === undefined ? {} : { embedded }),
  });
  const pool = createTransportPool(config.grpcClients, { logger, caller: config.server.name });
  const books = createBooks({
    repository: createBookRepository(database.db),
    orders: ordersOfOrderService(pool),
    logger,
  });
  const server = createServer({ config: config.server, logger, readiness, routes: bookRoutes(books) });

  const lifecycle = createLifecycle({ logger });
  lifecycle.add({ name: "database", start: () => database.start(), stop: () => database.close() });
  lifecycle.add({ name: "transport pool", start: () => pool.connect(), stop: () => pool.close() });
  lifecycle.add({
    name: "server",
    start: () => server.start(),
    stop: (signal) => server.stop(signal),
    stopTimeoutMs: server.stopTimeoutMs,
  });

  return {
    logger,
    books,
    start: () => lifecycle.start(),
    stop: () => lifecycle.stop(),
    ready: (signal) => database.ready(signal),
    get url() {
      return server.url;
    },
  };
}
