// `npm run dev`: the whole bookshop in one process, on one embedded database.

import process from "node:process";
import { openEmbedded } from "#shared/database";
import { type App, createLifecycle, run } from "#shared/lifecycle";
import { createLogger } from "#shared/logging";
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
  const { CONFIG_FILE: _file, SERVER_PORT: _port, DATABASE_URL: _url, ...rest } = env;
  const shared = { LOG_FORMAT: "auto", ...rest };
  return {
    user: loadUserConfig(shared),
    book: loadBookConfig(shared),
    order: loadOrderConfig(shared),
    gateway: loadGatewayConfig(shared),
    dataFolder: env["DATA_DIR"] ?? ".data/dev",
  };
}

async function create({ user, book, order, gateway, dataFolder }: DevConfig): Promise<App> {
  const loggerOf = ({ server, log }: { server: UserConfig["server"]; log: UserConfig["log"] }) =>
    createLogger({ name: server.name, config: log });
  const logger = loggerOf({ server: { ...gateway.server, name: "dev" }, log: gateway.log });
  const embedded = await openEmbedded(`pglite:${dataFolder}`);
  const users = createUserApp(user, { embedded, logger: loggerOf(user) });
  const books = createBookApp(book, { embedded, logger: loggerOf(book) });
  const orders = createOrderApp(order, { embedded, logger: loggerOf(order) });
  const front = createGatewayApp(gateway, { logger: loggerOf(gateway) });

  const lifecycle = createLifecycle({ logger });
  lifecycle.add({ name: "embedded database", stop: () => embedded.close() });
  for (const [name, app] of Object.entries({ orders, books, users, gateway: front })) {
    lifecycle.add({ name, start: () => app.start(), stop: () => app.stop() });
  }
  lifecycle.add({
    name: "seed",
    async start() {
      await Promise.all([users.ready(), books.ready(), orders.ready()]);
      for (const seed of seeds) await books.books.create(seed);
      process.stdout.write(banner(front.url, users.url, books.url, orders.url));
    },
  });
  return { logger, start: () => lifecycle.start(), stop: () => lifecycle.stop() };
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

function banner(gateway: string, user: string, book: string, order: string): string {
  return `
  Meridian is up, data in .data/dev. Ctrl-C ends it.

    gateway  ${gateway}    user  ${user}    book  ${book}    order  ${order}

    curl ${gateway}/user.v1.UserService/SayHello --json '{"name":"Ada"}'

`;
}

await run({ process, load, create });
