import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import type { FastifyInstance } from "fastify";
import type { Readiness } from "#shared/lifecycle";
import { type RecordedMethods, recordMethods } from "./rpc/recorded-methods.ts";
import { addHealth } from "./services/health.ts";
import { addReflection } from "./services/reflection.ts";

/**
 * Registers a service's Connect routes. Called once.
 *
 * `draining` fires when the server begins to shut down, once clients have been told to go: streams without an end of
 * their own end by it (its reason is UNAVAILABLE, SHUTTING_DOWN), or they hold the shutdown for `shutdown_timeout`.
 */
export type Routes = (router: ConnectRouter, draining: AbortSignal) => void;

export interface RoutesOptions {
  readonly readiness: Readiness;
  readonly routes: Routes;
  /** Ends streams of the platform's own, so that they do not hold a shutdown. */
  readonly closing: AbortSignal;
}

/** The service's methods, with health and reflection. */
export function recordRoutes({ readiness, routes, closing }: RoutesOptions): RecordedMethods {
  const recorded = recordMethods();
  const { router } = recorded;
  routes(router, closing);
  const served = new Set<DescService>(router.handlers.map(({ service }) => service));
  addHealth(router, { readiness, services: [...served].map(({ typeName }) => typeName), closing });
  addReflection(router, { services: () => router.handlers.map(({ service }) => service), closing });
  return recorded;
}

/** `/livez` and `/readyz`. */
export function addProbes(fastify: FastifyInstance, readiness: Readiness): void {
  fastify.get("/livez", async () => ({ status: "alive" }));
  fastify.get("/readyz", async (_request, reply) => {
    const state = readiness.state();
    // Anybody may ask, and a reason may name a host or a login: those are for the log.
    const components = state.components.map(({ name, ready }) => ({ name, ready }));
    const draining = state.draining !== undefined;
    return reply.code(state.ready ? 200 : 503).send({ ready: state.ready, draining, components });
  });
}
