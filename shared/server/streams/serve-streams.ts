import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { RunningCalls } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { callInfoOf } from "../call-info.ts";
import type { ServerConfig } from "../config.ts";
import { giveUp } from "../give-up.ts";
import { CallValues } from "../short-path/call-values.ts";
import { createCompressionChoice } from "../short-path/compression-choice.ts";
import { addHeaders } from "../short-path/hook-headers.ts";
import { ordinaryDialect } from "../short-path/ordinary.ts";
import type { StreamImplementation } from "../short-path/recorded-methods.ts";
import type { ShortRouteOf } from "../short-path/short-route.ts";
import { cutTimeout } from "../timeout-headers.ts";
import type { Request, Response } from "../unary/answer.ts";
import { StreamCall } from "./stream-call.ts";
import { createStreamMethod } from "./stream-method.ts";

export interface StreamServerOptions {
  readonly config: Pick<ServerConfig, "readMaxBytes" | "writeMaxBytes" | "compressMinBytes" | "maxStreamTimeoutMs">;
  readonly logger: Logger;
  readonly methods: ReadonlyMap<DescMethod, StreamImplementation>;
  readonly interceptors: readonly Interceptor[];
  readonly acceptCompression: Compression[];
  /** Ends every call. */
  readonly shutdown: AbortSignal;
}

/**
 * The short path of streams, for gRPC: no chain of streams in between, and what a handler yields without a wait is
 * written at once. All other protocols, and calls that are odd by their headers, have Connect's own handlers.
 */
export function createStreamRoutes(options: StreamServerOptions): ShortRouteOf {
  const { config, logger, methods, interceptors, acceptCompression, shutdown } = options;
  const running = new RunningCalls<StreamCall>();
  shutdown.addEventListener("abort", () => {
    for (const call of running) call.abort(shutdown.reason);
  });
  const compressionFor = createCompressionChoice(acceptCompression);

  return ({ method: descriptor, requestPath }) => {
    const implementation = methods.get(descriptor);
    if (implementation === undefined) return undefined;
    const method = createStreamMethod({ implementation, requestPath, interceptors, limits: config });
    const name = `${descriptor.parent.typeName}/${descriptor.name}`;

    return {
      take({ raw: request }: { raw: Request }, reply) {
        const response = reply.raw as Response;
        const { readMaxBytes, compressMinBytes } = config;
        const timeoutMs = cutTimeout(request.headers, config.maxStreamTimeoutMs);
        // Without a timeout, there is one that cannot be read, or none.
        const isTimeless = timeoutMs === undefined && request.headers["grpc-timeout"] === undefined;
        const heldMs = isTimeless ? Number.POSITIVE_INFINITY : timeoutMs;
        const dialect = ordinaryDialect(request, { requestPath, timeoutMs: heldMs, readMaxBytes });
        if (dialect?.protocol !== "grpc" || shutdown.aborted) return false;
        const info = callInfoOf(request);
        if (timeoutMs !== undefined) info.deadlineMs = info.startedAtMs + timeoutMs;
        const call = new StreamCall({
          method,
          dialect,
          // By anything else gRPC is not ordinary.
          request: request as Http2ServerRequest,
          response: response as Http2ServerResponse,
          values: new CallValues(info),
          timeoutMs,
          readMaxBytes,
          compression: compressionFor(dialect, request),
          compressMinBytes,
          shutdown,
          addHeaders: () => addHeaders(reply.raw, reply.getHeaders()),
          giveUp: (error) => giveUp(error, { logger, method: name, response }),
          onEnd(answeredError) {
            running.delete(call);
            try {
              info.log?.ended(answeredError);
            } catch (err) {
              logger.error({ err, method: name }, "the end of a call cannot be told");
            }
          },
        });
        running.add(call);
        info.stream = call;
        void call.run();
        return true;
      },
    };
  };
}
