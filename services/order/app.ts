import { createDatabase, type Embedded } from "#shared/database";
import { type App, createLifecycle, createReadiness } from "#shared/lifecycle";
import { createLogger, type Logger } from "#shared/logging";
import { createServer } from "#shared/server";
import { createTransportPool } from "#shared/transport-pool";
import type { OrderConfig } from "./config.ts";
import { migrations } from "./migrations.ts";
import { createOrders, type Orders } from "./orders.ts";
import { peersOf } from "./peers.ts";
import { createOrderRepository, type OrderTables } from "./repository.ts";
import { orderRoutes } from "./routes.ts";

/** What several services in one process share, and tests replace. */
export interface OrderAppOverrides {
  readonly logger?: Logger;
  readonly embedded?: Embedded;
}

export interface OrderApp extends App {
  /** Where it listens, once started. */
  readonly url: string;
  /** The use cases, for what runs in the same process. */
  readonly orders: Orders;
  /** Resolves once the database can be used: `start` does not wait for it. */
  ready(signal?: AbortSignal): Promise<void>;
}

/**
 * order-service, made of its parts.
 *
 * @throws RangeError when user-service or book-service is not configured
 */
export function createOrderApp(config: OrderConfig, overrides: OrderAppOverrides = {}): OrderApp {
  const { logger = createLogger({ name: config.server.name, config: config.log }), embedded } = overrides;
  if (config.rabbitmq?.enabled) logger.warn("rabbitmq is configured, and this version does not carry it out");
  const readiness = createReadiness();
  const database = createDatabase<OrderTables>({
    config: config.database,
    schema: "orders",
    migrations,
    logger,
    readiness,
    ...(embedded === undefined ? {} : { embedded }),
  });
  const pool = createTransportPool(config.grpcClients, { logger, caller: config.server.name });
  const orders = createOrders({
    repository: createOrderRepository(database.db),
    peers: peersOf(pool),
    watchIntervalMs: config.watchIntervalMs,
  });
  const server = createServer({ config: config.server, logger, readiness, routes: orderRoutes(orders) });

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
    orders,
    start: () => lifecycle.start(),
    stop: () => lifecycle.stop(),
    ready: (signal) => database.ready(signal),
    get url() {
      return server.url;
    },
  };
}
