import type { DescService } from "@bufbuild/protobuf";
import { cors } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { contextHeaders } from "#shared/call-context";
import { type App, createLifecycle, createReadiness, warnOfRestart } from "#shared/lifecycle";
import { createLogger, type Logger } from "#shared/logging";
import { type CorsOptions, createAdminServer, createServer } from "#shared/server";
import { createTransportPool } from "#shared/transport-pool";
import type { GatewayConfig } from "./config.ts";
import { forward, PUSHBACK } from "./forward.ts";

/** What the outside may call: one line for a service here, one entry under `grpc_clients` in the configuration. */
const exposed: Readonly<Record<string, readonly DescService[]>> = {
  "user-service": [UserService],
  "book-service": [BookService],
  "order-service": [OrderService],
};

/** What several services in one process share, and tests replace. */
export interface GatewayAppOverrides {
  readonly logger?: Logger;
}

export interface GatewayApp extends App {
  /** Where it listens, once started. */
  readonly url: string;
  /** Calls to come go by the `grpc_clients` of this configuration; for its other parts a warning asks for a restart. */
  reconfigure(config: GatewayConfig): void;
  /** Maximum time that a stop takes, in ms. */
  readonly stopTimeoutMs: number;
}

/** Maximum time that the parts of a stop take, in ms, besides the server's. */
const STOP_MS = { admin: 500, pool: 1_000 } as const;

/**
 * The way in from outside: every method of the configured services, in gRPC, gRPC-Web and Connect.
 *
 * @throws RangeError when a service is configured that is not in `exposed`, or something of a method that does not exist
 * or does not allow it
 */
export function createGatewayApp(config: GatewayConfig, overrides: GatewayAppOverrides = {}): GatewayApp {
  const { logger = createLogger({ name: config.server.name, config: config.log }) } = overrides;
  const { headers, grpcClients } = config;
  const pool = createTransportPool(grpcClients, {
    logger,
    caller: config.server.name,
    discovery: config.discovery,
    closeTimeoutMs: STOP_MS.pool / 2,
  });
  const forwarded = grpcClients.services.flatMap(({ name }) =>
    exposedBy(name).map((service) => {
      // Only for what it checks: that the configuration's methods are those of the service.
      pool.client(name, service);
      return { service, name, transport: pool.transport(name), headers };
    }),
  );
  const server = createServer({
    config: config.server,
    logger,
    readiness: createReadiness(),
    routes(router) {
      for (const { service, ...options } of forwarded) forward(router, service, options);
    },
    // Each service checks its own rules.
    validate: false,
    cors: corsOf(config),
  });
  const admin = createAdminServer({ config: config.admin, logger, pages: { "/debug/pool": () => pool.states() } });

  const lifecycle = createLifecycle({ logger });
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
    name: "server",
    start: () => server.start(),
    stop: (signal) => server.stop(signal),
    stopTimeoutMs: server.stopTimeoutMs,
  });

  return {
    logger,
    start: () => lifecycle.start(),
    stop: () => lifecycle.stop(),
    stopTimeoutMs: lifecycle.stopTimeoutMs,
    reconfigure(next) {
      pool.update(next.grpcClients);
      warnOfRestart({ logger, inForce: config, next, taken: ["grpcClients"] });
    },
    get url() {
      return server.url;
    },
  };
}

function exposedBy(name: string): readonly DescService[] {
  if (Object.hasOwn(exposed, name)) return exposed[name] ?? [];
  throw new RangeError(`the gateway knows no messages of ${name}; it knows ${Object.keys(exposed).join(", ")}`);
}

function corsOf({ cors: { origins, maxAgeMs }, headers }: GatewayConfig): CorsOptions {
  return {
    origin: origins.includes("*") ? "*" : [...origins],
    methods: [...cors.allowedMethods],
    allowedHeaders: [...cors.allowedHeaders, ...headers.request, ...Object.values(contextHeaders)],
    exposedHeaders: [...cors.exposedHeaders, ...headers.response, contextHeaders.requestId, PUSHBACK],
    maxAge: Math.floor(maxAgeMs / 1_000),
  };
}
