import type { DescMethod } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type { Compression, UniversalHandler } from "@connectrpc/connect/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import { RunningCalls } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { callInfoOf } from "../call-info.ts";
import type { ServerConfig } from "../config.ts";
import { cutTimeout } from "../timeout-headers.ts";
import type { Request } from "./answer.ts";
import { createCompressionChoice } from "./compression-choice.ts";
import { addHeaders } from "./hook-headers.ts";
import { ordinaryDialect } from "./ordinary.ts";
import type { UnaryImplementation } from "./recorded-methods.ts";
import { UnaryCall, type UnaryRoute } from "./unary-call.ts";
import { createUnaryMethod } from "./unary-method.ts";

export interface UnaryServerOptions {
  readonly config: Pick<ServerConfig, "readMaxBytes" | "writeMaxBytes" | "maxTimeoutMs">;
  readonly logger: Logger;
  readonly methods: ReadonlyMap<DescMethod, UnaryImplementation>;
  readonly interceptors: readonly Interceptor[];
  readonly acceptCompression: Compression[];
  readonly jsonOptions: object;
  /** Whether anything may set headers beside Connect, such as CORS. */
  readonly hasHooks: boolean;
  /** Ends every call. */
  readonly shutdown: AbortSignal;
}

/** Answers a call by other means, and gets what was read of its body. */
export type HandOn = (request: FastifyRequest, reply: FastifyReply, body: AsyncIterable<Uint8Array>) => void;

/** Serves a method's ordinary calls. */
export interface ShortRoute {
  /** @returns false for a call that is not ordinary: nothing has been done with it */
  take(request: FastifyRequest, reply: FastifyReply): boolean;
}

export type ShortRouteOf = (handler: UniversalHandler, handOn: HandOn) => ShortRoute | undefined;

/**
 * The short path of unary calls. Connect's own handlers send each of them through some ten streams of chunks; this reads
 * the message whole, calls the same interceptors and the same implementation, and writes the answer whole.
 */
export function createUnaryRoutes(options: UnaryServerOptions): ShortRouteOf {
  const { config, logger, methods, interceptors, acceptCompression, jsonOptions, hasHooks, shutdown } = options;
  const { readMaxBytes } = config;
  const running = new RunningCalls<UnaryCall>();
  shutdown.addEventListener("abort", () => {
    for (const call of running) call.abort(shutdown.reason);
  });
  const compressionFor = createCompressionChoice(acceptCompression);

  return ({ method: descriptor, requestPath }, handOn) => {
    const implementation = methods.get(descriptor);
    if (implementation === undefined) return undefined;
    const method = createUnaryMethod({ implementation, requestPath, interceptors, limits: config, jsonOptions });
    const route: UnaryRoute = {
      method,
      readMaxBytes,
      jsonOptions,
      logger,
      running,
      handOn,
      addHeaders: hasHooks ? addHeaders : () => false,
    };

    return {
      take(request, reply) {
        const raw: Request = request.raw;
        const timeoutMs = cutTimeout(raw.headers, config.maxTimeoutMs);
        const dialect = ordinaryDialect(raw, { requestPath, timeoutMs, readMaxBytes });
        if (dialect === undefined || timeoutMs === undefined || shutdown.aborted) return false;
        const info = callInfoOf(raw);
        info.deadlineMs = info.startedAtMs + timeoutMs;
        const compression = compressionFor(dialect, raw);
        info.unary = new UnaryCall(route, { request, reply, info, dialect, timeoutMs, compression });
        return true;
      },
    };
  };
}
