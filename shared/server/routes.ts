import type { DescService } from "@bufbuild/protobuf";
import { type ConnectRouter, createConnectRouter, type Interceptor } from "@connectrpc/connect";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { FastifyInstance } from "fastify";
import type { Readiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import type { ServerConfig } from "./config.ts";
import type { DirectRoutes } from "./direct/direct-routes.ts";
import { addHealth } from "./health.ts";
import { addReflection } from "./reflection.ts";
import { serveConnect } from "./serve-connect.ts";
import { recordMethods } from "./short-path/recorded-methods.ts";
import type { ShortRouteOf } from "./short-path/short-route.ts";
import { createStreamRoutes } from "./streams/serve-streams.ts";
import { createUnaryRoutes } from "./unary/serve-unary.ts";

/**
 * Registers a service's Connect routes. Called once.
 *
 * `draining` fires when the server begins to shut down, once clients have been told to go: streams without an end of
 * their own end by it (its reason is UNAVAILABLE, SHUTTING_DOWN), or they hold the shutdown for `shutdown_timeout`.
 */
export type Routes = (router: ConnectRouter, draining: AbortSignal) => void;

export interface RoutesOptions {
  readonly config: ServerConfig;
  readonly logger: Logger;
  readonly readiness: Readiness;
  readonly routes: Routes;
  readonly interceptors: Interceptor[];
  /** Whether anything else than routes was added to Fastify. */
  readonly hasHooks: boolean;
  /** Where calls are taken before they come to Fastify. Undefined: nowhere. */
  readonly direct: DirectRoutes | undefined;
  /** Ends streams of the platform's own, so that they do not hold a shutdown. */
  readonly closing: AbortSignal;
  /** Ends every call. */
  readonly shutdown: AbortSignal;
}

/** For Connect's JSON, which would replace invalid UTF-8, where protobuf refuses it. */
const jsonOptions: object = { textDecoder: new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }) };

/** The service's routes, health and reflection, served in all of Connect's protocols. */
export function addRoutes(fastify: FastifyInstance, options: RoutesOptions): void {
  const { config, logger, readiness, interceptors, hasHooks, direct, closing, shutdown } = options;

  const acceptCompression = [compressionGzip, compressionBrotli];
  const recorded = recordMethods(
    createConnectRouter({
      interceptors,
      acceptCompression,
      readMaxBytes: config.readMaxBytes,
      writeMaxBytes: config.writeMaxBytes,
      compressMinBytes: config.compressMinBytes,
      jsonOptions,
      shutdownSignal: shutdown,
    }),
  );
  const { router } = recorded;
  options.routes(router, closing);
  const served = new Set<DescService>(router.handlers.map(({ service }) => service));
  addHealth(router, { readiness, services: [...served].map(({ typeName }) => typeName), closing });
  addReflection(router, { services: () => router.handlers.map(({ service }) => service), closing });
  const common = { config, logger, interceptors, acceptCompression, shutdown };
  const unaryRouteOf = createUnaryRoutes({ ...common, methods: recorded.unary, jsonOptions, hasHooks });
  const streamRouteOf = createStreamRoutes({ ...common, methods: recorded.streams });
  const shortRouteOf: ShortRouteOf = (handler, handOn) =>
    config.fastPath ? (unaryRouteOf(handler, handOn) ?? streamRouteOf(handler, handOn)) : undefined;
  serveConnect(fastify, { config, logger, handlers: router.handlers, shortRouteOf, direct, shutdown });

  fastify.get("/livez", async () => ({ status: "alive" }));
  fastify.get("/readyz", async (_request, reply) => {
    const state = readiness.state();
    // Anybody may ask, and a reason may name a host or a login: those are for the log.
    const components = state.components.map(({ name, ready }) => ({ name, ready }));
    const draining = state.draining !== undefined;
    return reply.code(state.ready ? 200 : 503).send({ ready: state.ready, draining, components });
  });
}
