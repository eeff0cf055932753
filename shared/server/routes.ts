import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import type { FastifyInstance } from "fastify";
import type { Readiness } from "#shared/lifecycle";
import { callContextValues } from "./call-info.ts";
import type { ServerConfig } from "./config.ts";
import { addHealth } from "./health.ts";
import { addReflection } from "./reflection.ts";
import { clampTimeout } from "./timeout-headers.ts";

export interface RoutesOptions {
  readonly config: ServerConfig;
  readonly readiness: Readiness;
  readonly routes: (router: ConnectRouter) => void;
  readonly interceptors: Interceptor[];
  /** Ends streams of the platform's own, so that they do not hold a shutdown. */
  readonly closing: AbortSignal;
  /** Ends every call. */
  readonly shutdown: AbortSignal;
}

/** The service's routes, health and reflection, served in all of Connect's protocols. */
export function addRoutes(fastify: FastifyInstance, options: RoutesOptions): void {
  const { config, readiness, interceptors, closing, shutdown } = options;
  const isUnary = new Map<string, boolean>();

  // Connect refuses a deadline over its limit; gRPC's way is that the shorter of the two holds.
  fastify.addHook("onRequest", (request, _reply, done) => {
    const path = request.url.split("?", 1)[0] ?? "";
    const unary = isUnary.get(path);
    const maxMs = unary ? config.maxTimeoutMs : config.maxStreamTimeoutMs;
    if (unary !== undefined && maxMs > 0) clampTimeout(request.raw.headers, maxMs);
    done();
  });

  fastify.register(fastifyConnectPlugin, {
    routes(router) {
      options.routes(router);
      const served = new Map<string, DescService>();
      for (const { service } of router.handlers) served.set(service.typeName, service);
      addHealth(router, { readiness, services: () => served.keys(), closing });
      addReflection(router, () => new Set(router.handlers.map(({ service }) => service)));
      for (const { requestPath, method } of router.handlers) isUnary.set(requestPath, method.methodKind === "unary");
    },
    interceptors,
    contextValues: callContextValues,
    readMaxBytes: config.readMaxBytes,
    writeMaxBytes: config.writeMaxBytes,
    shutdownSignal: shutdown,
  });

  fastify.get("/livez", async () => ({ status: "alive" }));
  fastify.get("/readyz", async (_request, reply) => {
    const state = readiness.state();
    return reply.code(state.ready ? 200 : 503).send(state);
  });
}
