import { type Embedded, openEmbedded } from "#shared/database";
import { DomainError } from "#shared/errors";
import { createInProcessBroker, type InProcessBroker } from "#shared/event-bus";
import type { App } from "#shared/lifecycle";
import type { ServerConfig } from "#shared/server";
import { type RecordedLog, recordLog } from "#shared/testing";
import type { GrpcClientsConfig, ServiceConfig } from "#shared/transport-pool";
import { createBookApp } from "../../services/book/app.ts";
import { loadBookConfig } from "../../services/book/config.ts";
import { createGatewayApp } from "../../services/gateway/app.ts";
import { loadGatewayConfig } from "../../services/gateway/config.ts";
import { createOrderApp } from "../../services/order/app.ts";
import { loadOrderConfig } from "../../services/order/config.ts";
import { createUserApp } from "../../services/user/app.ts";
import { loadUserConfig } from "../../services/user/config.ts";
import { freePort } from "./free-port.ts";

export type ServiceName = "user" | "book" | "order" | "gateway";

export interface BookshopOptions {
  /** Pages that may call the gateway. */
  readonly origins?: readonly string[];
  /** Set instead of the services' own addresses, such as `USER_SERVICE_ADDRESS`. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The four real apps in this process, on one embedded database in memory, with events inside of the process. */
export interface Bookshop {
  /** The gateway's. */
  readonly url: string;
  readonly embedded: Embedded;
  readonly broker: InProcessBroker;
  /** What each service has logged, over all its restarts. */
  readonly logs: Readonly<Record<ServiceName, RecordedLog>>;
  portOf(name: ServiceName): number;
  /** Starts one that was stopped, at the address that it had. */
  start(name: ServiceName): Promise<void>;
  stop(name: ServiceName): Promise<void>;
  /** Another gateway beside the first, that speaks another protocol with the services. Answers its URL. */
  startGateway(protocol: ServiceConfig["protocol"]): Promise<{ readonly url: string; stop(): Promise<void> }>;
  /** Another user-service beside the first, at a port of its own. */
  startUserReplica(): Promise<{ readonly port: number; stop(): Promise<void> }>;
  /** Has all events stay in their outboxes, as while a broker is away, until the function that it answers is called. */
  holdEvents(): () => void;
  /** Stops everything. */
  close(): Promise<void>;
}

/** Those that others need come first; book and order need each other. */
const START_ORDER = ["order", "book", "user", "gateway"] as const;

/** The shipped configuration, with ports of this test. */
export async function startBookshop(options: BookshopOptions = {}): Promise<Bookshop> {
  const ports = { user: await freePort(), book: await freePort(), order: await freePort(), gateway: await freePort() };
  const logs = { user: recordLog(), book: recordLog(), order: recordLog(), gateway: recordLog() };
  const embedded = await openEmbedded("pglite:memory");
  const { broker, holdEvents } = createBrokerToHold();
  const running = new Map<ServiceName, App>();

  function envFor(name: ServiceName, port: number): Record<string, string> {
    return {
      USER_SERVICE_ADDRESS: `127.0.0.1:${ports.user}`,
      BOOK_SERVICE_ADDRESS: `127.0.0.1:${ports.book}`,
      ORDER_SERVICE_ADDRESS: `127.0.0.1:${ports.order}`,
      ...(process.env["FAST_PATH"] !== undefined && { FAST_PATH: process.env["FAST_PATH"] }),
      ...options.env,
      SERVER_PORT: String(port),
      ...(name !== "gateway" && { DATABASE_URL: "pglite:memory" }),
    };
  }

  function create(name: ServiceName, port: number): App & { ready?(signal: AbortSignal): Promise<void> } {
    const env = envFor(name, port);
    const { logger } = logs[name];
    switch (name) {
      case "user":
        return createUserApp(inTestTime(loadUserConfig(env)), { embedded, broker, logger });
      case "book":
        return createBookApp(inTestTime(loadBookConfig(env)), { embedded, broker, logger });
      case "order":
        return createOrderApp(inTestTime(loadOrderConfig(env)), { embedded, broker, logger });
      case "gateway": {
        const config = inTestTime(loadGatewayConfig(env));
        const cors = { ...config.cors, origins: [...config.cors.origins, ...(options.origins ?? [])] };
        return createGatewayApp({ ...config, cors }, { logger });
      }
    }
  }

  async function startAt(name: ServiceName, port: number): Promise<App> {
    const app = create(name, port);
    await app.start();
    await app.ready?.(AbortSignal.timeout(20_000));
    return app;
  }

  async function stop(name: ServiceName): Promise<void> {
    const app = running.get(name);
    running.delete(name);
    await app?.stop();
  }

  const shop: Bookshop = {
    url: `http://127.0.0.1:${ports.gateway}`,
    embedded,
    broker,
    logs,
    portOf: (name) => ports[name],
    async start(name) {
      running.set(name, await startAt(name, ports[name]));
    },
    stop,
    async startGateway(protocol) {
      const config = inTestTime(loadGatewayConfig(envFor("gateway", 0)));
      const services = config.grpcClients.services.map((service) => ({ ...service, protocol }));
      const app = createGatewayApp({ ...config, grpcClients: { services } }, { logger: logs.gateway.logger });
      await app.start();
      return { url: app.url, stop: () => app.stop() };
    },
    async startUserReplica() {
      const port = await freePort();
      const app = await startAt("user", port);
      return { port, stop: () => app.stop() };
    },
    holdEvents,
    async close() {
      for (const name of START_ORDER.toReversed()) await stop(name);
      broker.close();
      await embedded.close();
    },
  };
  for (const name of START_ORDER) await shop.start(name);
  return shop;
}

function createBrokerToHold(): { readonly broker: InProcessBroker; readonly holdEvents: () => () => void } {
  const broker = createInProcessBroker();
  let held = 0;
  return {
    broker: {
      ...broker,
      route(exchange, envelope) {
        if (held > 0) throw new DomainError("unavailable", "EVENT_BUS_UNAVAILABLE", "the test holds events back");
        return broker.route(exchange, envelope);
      },
    },
    holdEvents() {
      let isHeld = true;
      held++;
      return () => {
        if (isHeld) held--;
        isHeld = false;
      };
    },
  };
}

/** The shipped waits, shorter: until a peer that is not up is tried again, and for calls that do not end. */
function inTestTime<Config extends { readonly server: ServerConfig; readonly grpcClients: GrpcClientsConfig }>(
  config: Config,
): Config {
  const services = config.grpcClients.services.map((service) => ({
    ...service,
    connectBackoff: { ...service.connectBackoff, initialMs: 20, maxMs: 200 },
  }));
  return { ...config, server: { ...config.server, shutdownTimeoutMs: 1_000 }, grpcClients: { services } };
}
