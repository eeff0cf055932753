import { createDatabase, type Embedded } from "#shared/database";
import { type App, createLifecycle, createReadiness } from "#shared/lifecycle";
import { createLogger, type Logger } from "#shared/logging";
import { createServer } from "#shared/server";
import { createTransportPool } from "#shared/transport-pool";
import type { UserConfig } from "./config.ts";
import { migrations } from "./migrations.ts";
import { recommendByBookService } from "./peers.ts";
import { createUserRepository, type UserTables } from "./repository.ts";
import { userRoutes } from "./routes.ts";
import { createUsers, type Users } from "./users.ts";

/** What several services in one process share, and tests replace. */
export interface UserAppOverrides {
  readonly logger?: Logger;
  readonly embedded?: Embedded;
}

export interface UserApp extends App {
  /** Where it listens, once started. */
  readonly url: string;
  /** The use cases, for what runs in the same process. */
  readonly users: Users;
  /** Resolves once the database can be used: `start` does not wait for it. */
  ready(signal?: AbortSignal): Promise<void>;
}

/** user-service, made of its parts. */
export function createUserApp(config: UserConfig, overrides: UserAppOverrides = {}): UserApp {
  const { logger = createLogger({ name: config.server.name, config: config.log }), embedded } = overrides;
  if (config.rabbitmq?.enabled) logger.warn("rabbitmq is configured, and this version does not carry it out");
  const readiness = createReadiness();
  const database = createDatabase<UserTables>({
    config: config.database,
    schema: "users",
    migrations,
    logger,
    readiness,
    ...(embedded === undefined ? {} : { embedded }),
  });
  const pool = createTransportPool(config.grpcClients, { logger, caller: config.server.name });
  const users = createUsers({
    repository: createUserRepository(database.db),
    recommend: recommendByBookService(pool),
    logger,
  });
  const server = createServer({ config: config.server, logger, readiness, routes: userRoutes(users) });

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
    users,
    start: () => lifecycle.start(),
    stop: () => lifecycle.stop(),
    ready: (signal) => database.ready(signal),
    get url() {
      return server.url;
    },
  };
}
