// `npm run dev`: the whole bookshop in one process, on one embedded database, its events inside of the process.

import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { type Embedded, openEmbedded } from "#shared/database";
import { createInProcessBroker, type InProcessBroker } from "#shared/event-bus";
import { type App, createLifecycle, run } from "#shared/lifecycle";
import { createLogger, type LogConfig, type Logger } from "#shared/logging";
import { createBookApp } from "./book/app.ts";
import { type BookConfig, loadBookConfig } from "./book/config.ts";
import { createGatewayApp } from "./gateway/app.ts";
import { type GatewayConfig, loadGatewayConfig } from "./gateway/config.ts";
import { createOrderApp } from "./order/app.ts";
import { loadOrderConfig, type OrderConfig } from "./order/config.ts";
import { createUserApp } from "./user/app.ts";
import { loadUserConfig, type UserConfig } from "./user/config.ts";

interface DevConfig {
  readonly user: UserConfig;
  readonly book: BookConfig;
  readonly order: OrderConfig;
  readonly gateway: GatewayConfig;
  /** The embedded database's folder. */
  readonly dataFolder: string;
}

/** Each service's own configuration; what would be one value for all four in the environment does not count. */
function load(env: Readonly<Record<string, string | undefined>>): DevConfig {
  const {
    CONFIG_FILE: _file,
    SERVER_PORT: _port,
    ADMIN_PORT: _adminPort,
    DATABASE_URL: _database,
    RABBITMQ_URL: _broker,
    RABBITMQ_QUEUE: _queue,
    ...rest
  } = env;
  const shared = { LOG_FORMAT: "auto", ...rest };
  return {
    user: loadUserConfig(shared),
    book: loadBookConfig(shared),
    order: loadOrderConfig(shared),
    gateway: loadGatewayConfig(shared),
    dataFolder: env["DATA_DIR"] ?? ".data/dev",
  };
}

function create(config: DevConfig): App {
  const logger = loggerOf({ server: { name: "dev" }, log: config.gateway.log });
  const lifecycle = createLifecycle({ logger });
  const broker = createInProcessBroker();
  let embedded: Embedded | undefined;
  let apps: Bookshop | undefined;

  lifecycle.add({
    name: "embedded database",
    start: async () => {
      embedded = await openEmbedded(`pglite:${config.dataFolder}`);
      apps = createBookshop(config, { embedded, broker });
    },
    stop: () => embedded?.close(),
  });
  lifecycle.add({
    name: "event broker",
    stop() {
      const lost = broker.close();
      if (lost > 0) logger.warn({ lost }, "events were under way, and end with this process");
    },
  });
  for (const name of ["order", "book", "user", "gateway"] as const) {
    lifecycle.add({ name, start: () => apps?.[name].start(), stop: () => apps?.[name].stop() });
  }
  lifecycle.add({
    name: "seeds",
    async start() {
      if (apps === undefined) return;
      await Promise.all([apps.user.ready(), apps.book.ready(), apps.order.ready()]);
      for (const seed of seeds) await apps.book.books.create(seed);
      await delay(2 * LOOK_AGAIN_MS);
      process.stdout.write(banner(apps, config.dataFolder));
    },
  });
  return { logger, start: () => lifecycle.start(), stop: () => lifecycle.stop() };
}

type Bookshop = ReturnType<typeof createBookshop>;

/** What the services have in common. */
interface Shared {
  readonly embedded: Embedded;
  readonly broker: InProcessBroker;
}

function createBookshop({ user, book, order, gateway }: DevConfig, shared: Shared) {
  return {
    user: createUserApp(impatient(user), { ...shared, logger: loggerOf(user) }),
    book: createBookApp(impatient(book), { ...shared, logger: loggerOf(book) }),
    order: createOrderApp(impatient(order), { ...shared, logger: loggerOf(order) }),
    gateway: createGatewayApp(impatient(gateway), { logger: loggerOf(gateway) }),
  };
}

/** How often services look for one another. They start one after the other, and each needs one that starts later. */
const LOOK_AGAIN_MS = 50;

/** How long Ctrl-C waits for calls in flight, such as an open watch. */
const SHUTDOWN_TIMEOUT_MS = 1_000;

function impatient<Config extends Pick<GatewayConfig, "server" | "grpcClients">>(config: Config): Config {
  const connectBackoff = { initialMs: LOOK_AGAIN_MS, multiplier: 1, jitter: 0, maxMs: LOOK_AGAIN_MS };
  const services = config.grpcClients.services.map((service) => ({ ...service, connectBackoff }));
  const server = { ...config.server, shutdownTimeoutMs: SHUTDOWN_TIMEOUT_MS };
  return { ...config, server, grpcClients: { services } };
}

function loggerOf({ server, log }: { server: { name: string }; log: LogConfig }): Logger {
  return createLogger({ name: server.name, config: log });
}

/** The request ids are fixed: a restart finds these books there. */
const seeds = [
  ["The Soul of a New Machine", "Tracy Kidder", 1599n, 12],
  ["House", "Tracy Kidder", 1399n, 4],
  ["The Mythical Man-Month", "Fred Brooks", 3299n, 7],
  ["The Design of Everyday Things", "Don Norman", 1899n, 20],
  ["Gödel, Escher, Bach", "Douglas Hofstadter", 2499n, 3],
  ["A Pattern Language", "Christopher Alexander", 5999n, 0],
].map(([title, author, priceCents, stock], index) => ({
  title: title as string,
  author: author as string,
  priceCents: priceCents as bigint,
  stock: stock as number,
  requestId: `00000000-0000-4000-8000-00000000000${index + 1}`,
}));

function banner({ gateway, user, book, order }: Bookshop, dataFolder: string): string {
  return `
  Meridian is up, its data in ${dataFolder}. Ctrl-C ends it.

    gateway  ${gateway.url}
    user     ${user.url}
    book     ${book.url}
    order    ${order.url}

    curl ${gateway.url}/user.v1.UserService/SayHello -H 'content-type: application/json' -d '{"name":"Ada"}'

`;
}

await run({ process, load, create });
