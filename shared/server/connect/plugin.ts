import { createContextValues, type Interceptor } from "@connectrpc/connect";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { ServerConfig } from "../config.ts";
import { callInfoKey } from "../interceptors/call-info.ts";
import type { JsonOptions } from "../rpc/codec.ts";
import { compressions } from "../rpc/compression.ts";
import type { FastPath } from "../rpc/fast-path.ts";
import type { RecordedMethods } from "../rpc/recorded-methods.ts";
import { exchangeOf, type NodeResponse } from "./fallback.ts";
import { createGuard, type GuardOptions } from "./guard.ts";

export interface PluginOptions extends GuardOptions {
  readonly config: ServerConfig;
  readonly recorded: RecordedMethods;
  readonly interceptors: readonly Interceptor[];
  readonly jsonOptions: JsonOptions;
  /** Takes calls after the hooks of Fastify have seen them. Undefined: the plugin serves every call. */
  readonly fastPath: FastPath | undefined;
}

/** Registers Connect's own plugin, with a hook before each of its calls that closes what it leaves open. */
export function registerConnect(fastify: FastifyInstance, options: PluginOptions): void {
  const { config, recorded, interceptors, jsonOptions, fastPath, shutdown } = options;
  const guard = createGuard(options);
  const handlers = new Map(recorded.router.handlers.map((handler) => [handler.requestPath, handler]));

  fastify.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers();
    // Connect refuses content types in its protocols' ways.
    scope.addContentTypeParser("*", (_request, _payload, parsed) => parsed(null));
    scope.addHook("preHandler", (request, reply, next) => {
      const handler = handlers.get(request.routeOptions.url ?? "");
      if (handler === undefined) return next();
      if (fastPath !== undefined && takes(fastPath, request, reply)) return;
      if (!handler.allowedMethods.includes(request.method)) {
        reply.code(405).header("allow", handler.allowedMethods.join(", ")).send();
        return;
      }
      guard.begin(request, reply, handler);
      next();
    });
    scope.register(fastifyConnectPlugin, {
      acceptCompression: compressions,
      readMaxBytes: config.readMaxBytes,
      writeMaxBytes: config.writeMaxBytes,
      compressMinBytes: config.compressMinBytes,
      jsonOptions,
      interceptors: [guard.interceptor, ...interceptors],
      requestGate: guard.requestGate,
      shutdownSignal: shutdown,
      contextValues: ({ raw }) => createContextValues().set(callInfoKey, guard.callOf(raw)),
      routes: recorded.replay,
    });
    done();
  });
}

function takes(fastPath: FastPath, request: FastifyRequest, reply: FastifyReply): boolean {
  const exchange = exchangeOf(request.raw);
  if (!exchange.hook(reply.raw as NodeResponse as never, reply.getHeaders()) || !fastPath.take(exchange)) return false;
  // Or Fastify's own timeouts would go on.
  reply.hijack();
  return true;
}
