import type { DescMethod } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import type { FastifyReply } from "fastify";
import { RunningCalls } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { callInfoOf } from "../call-info.ts";
import type { ServerConfig } from "../config.ts";
import type { DirectRequest, DirectResponse } from "../direct/direct-call.ts";
import { createCompressionChoice } from "../short-path/compression-choice.ts";
import { ordinaryDialect } from "../short-path/ordinary.ts";
import type { UnaryImplementation } from "../short-path/recorded-methods.ts";
import type { ShortRouteOf } from "../short-path/short-route.ts";
import { cutTimeout } from "../timeout-headers.ts";
import type { Request, Response } from "./answer.ts";
import { UnaryCall, type UnaryRoute } from "./unary-call.ts";
import { createUnaryMethod } from "./unary-method.ts";

export interface UnaryServerOptions {
  readonly config: Pick<ServerConfig, "readMaxBytes" | "writeMaxBytes" | "compressMinBytes" | "maxTimeoutMs">;
  readonly logger: Logger;
  readonly methods: ReadonlyMap<DescMethod, UnaryImplementation>;
  readonly interceptors: readonly Interceptor[];
  readonly acceptCompression: Compression[];
  readonly jsonOptions: object;
  /** Whether anything beside Connect has a hand in answers, such as CORS. */
  readonly hasHooks: boolean;
  /** Ends every call. */
  readonly shutdown: AbortSignal;
}

/**
 * The short path of unary calls. Connect's own handlers send each of them through some ten streams of chunks; this reads
 * the message whole, calls the same interceptors and the same implementation, and writes the answer whole.
 */
export function createUnaryRoutes(options: UnaryServerOptions): ShortRouteOf {
  const { config, logger, methods, interceptors, acceptCompression, jsonOptions, hasHooks, shutdown } = options;
  const { readMaxBytes, compressMinBytes } = config;
  const running = new RunningCalls<UnaryCall>();
  shutdown.addEventListener("abort", () => {
    for (const call of running) call.abort(shutdown.reason);
  });
  const compressionFor = createCompressionChoice(acceptCompression);

  return ({ method: descriptor, requestPath }, handOn) => {
    const implementation = methods.get(descriptor);
    if (implementation === undefined) return undefined;
    const method = createUnaryMethod({ implementation, requestPath, interceptors, limits: config, jsonOptions });
    const common = { readMaxBytes, compressMinBytes, jsonOptions, logger, running, hasHooks };
    const route: UnaryRoute = { method, handOn, ...common };

    function take(
      request: Request | DirectRequest,
      response: Response | DirectResponse,
      reply: FastifyReply | undefined,
    ): boolean {
      const timeoutMs = cutTimeout(request.headers, config.maxTimeoutMs);
      const dialect = ordinaryDialect(request, { requestPath, timeoutMs, readMaxBytes });
      if (dialect === undefined || timeoutMs === undefined || shutdown.aborted) return false;
      const info = callInfoOf(request);
      info.deadlineMs = info.startedAtMs + timeoutMs;
      const compression = compressionFor(dialect, request);
      info.unary = new UnaryCall(route, { request, response, reply, info, dialect, timeoutMs, compression });
      return true;
    }

    return {
      take: (request, reply) => take(request.raw, reply.raw, reply),
      takeDirect: (request, response) => take(request, response, undefined),
    };
  };
}
