import type { DescMethod } from "@bufbuild/protobuf";
import { createContextValues, type Interceptor } from "@connectrpc/connect";
import type { Compression, UniversalHandler } from "@connectrpc/connect/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Logger } from "#shared/logging";
import { callInfoKey, callInfoOf } from "../call-info.ts";
import type { ServerConfig } from "../config.ts";
import { giveUp } from "../give-up.ts";
import { cutTimeout } from "../timeout-headers.ts";
import type { Request, Response } from "./answer.ts";
import { createCompressionChoice } from "./compression-choice.ts";
import { addHeaders } from "./hook-headers.ts";
import { ordinaryDialect } from "./ordinary.ts";
import type { UnaryImplementation } from "./recorded-methods.ts";
import { UnaryCall } from "./unary-call.ts";
import { createUnaryMethod } from "./unary-method.ts";

export interface UnaryServerOptions {
  readonly config: Pick<ServerConfig, "readMaxBytes" | "writeMaxBytes" | "maxTimeoutMs">;
  readonly logger: Logger;
  readonly methods: ReadonlyMap<DescMethod, UnaryImplementation>;
  readonly interceptors: readonly Interceptor[];
  readonly acceptCompression: Compression[];
  readonly jsonOptions: object;
  /** Ends every call. */
  readonly shutdown: AbortSignal;
}

/** Serves a method's ordinary calls. */
export interface ShortRoute {
  /**
   * @param handOn answers the call by other means, and gets what was read of its body
   * @returns false for a call that is not ordinary: nothing has been done with it
   */
  take(request: FastifyRequest, reply: FastifyReply, handOn: (body: AsyncIterable<Uint8Array>) => void): boolean;
}

/**
 * The short path of unary calls. Connect's own handlers send each of them through some ten streams of chunks; this reads
 * the message whole, calls the same interceptors and the same implementation, and writes the answer whole.
 */
export function createUnaryRoutes(options: UnaryServerOptions): (handler: UniversalHandler) => ShortRoute | undefined {
  const { config, logger, methods, interceptors, acceptCompression, jsonOptions, shutdown } = options;
  const running = new Set<UnaryCall>();
  shutdown.addEventListener("abort", () => {
    for (const call of running) call.abort(shutdown.reason);
  });
  const compressionFor = createCompressionChoice(acceptCompression);

  return ({ method: descriptor, requestPath }) => {
    const implementation = methods.get(descriptor);
    if (implementation === undefined) return undefined;
    const method = createUnaryMethod({ implementation, requestPath, interceptors, limits: config, jsonOptions });
    const name = `${descriptor.parent.typeName}/${descriptor.name}`;

    return {
      take({ raw: request }: { raw: Request }, reply, handOn) {
        const response: Response = reply.raw;
        const timeoutMs = cutTimeout(request.headers, config.maxTimeoutMs);
        const dialect = ordinaryDialect(request, { requestPath, timeoutMs, readMaxBytes: config.readMaxBytes });
        if (dialect === undefined || timeoutMs === undefined || shutdown.aborted) return false;
        const info = callInfoOf(request);
        info.deadlineMs = info.startedAtMs + timeoutMs;
        const call = new UnaryCall({
          method,
          dialect,
          request,
          response,
          info,
          values: createContextValues().set(callInfoKey, info),
          timeoutMs,
          readMaxBytes: config.readMaxBytes,
          compression: compressionFor(dialect, request),
          jsonOptions,
          addHeaders: () => addHeaders(reply),
          handOn(body) {
            delete info.unary;
            delete info.onClose;
            handOn(body);
          },
          giveUp: (error) => giveUp(error, { logger, method: name, response }),
          onEnd(answeredError) {
            running.delete(call);
            if (answeredError === undefined) return;
            try {
              info.onEnd?.(answeredError);
            } catch (err) {
              logger.error({ err, method: name }, "the end of a call cannot be told");
            }
          },
        });
        running.add(call);
        info.unary = call;
        info.onClose = () => call.closed();
        return true;
      },
    };
  };
}
