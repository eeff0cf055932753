import type { DescMethod } from "@bufbuild/protobuf";
import type { Interceptor, MethodImplSpec } from "@connectrpc/connect";
import { RunningCalls } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import type { CallRecords } from "../call-record.ts";
import type { ServerConfig } from "../config.ts";
import type { ServerExchange } from "../http/exchange.ts";
import type { Stages } from "../stages.ts";
import type { CallOptions, ServerCall } from "./call.ts";
import type { JsonOptions } from "./codec.ts";
import { type PreparedMethod, prepareMethod } from "./method.ts";
import { StreamCall } from "./stream-call.ts";
import { UnaryCall } from "./unary-call.ts";
import { matchWireFormat } from "./wire-format.ts";

/** Serves a call past Connect's handlers. */
export interface FastPath {
  /** @returns false for a call that is the fallback's: nothing has been done with it */
  take(exchange: ServerExchange): boolean;
}

export interface FastPathOptions {
  readonly config: Pick<
    ServerConfig,
    "readMaxBytes" | "writeMaxBytes" | "compressMinBytes" | "maxTimeoutMs" | "maxStreamTimeoutMs"
  >;
  readonly logger: Logger;
  readonly methods: ReadonlyMap<DescMethod, MethodImplSpec>;
  readonly interceptors: readonly Interceptor[];
  readonly jsonOptions: JsonOptions;
  readonly stages: Stages;
  readonly records: CallRecords;
  /** Ends every call. */
  readonly shutdown: AbortSignal;
}

/**
 * The calls' core: it reads messages whole, calls the interceptors and the implementation, and writes the response whole, where
 * Connect's own handlers send each call through some ten streams of chunks.
 */
export function createFastPath(options: FastPathOptions): FastPath {
  const { config, logger, methods, interceptors, jsonOptions, stages, records, shutdown } = options;
  const { readMaxBytes, writeMaxBytes, compressMinBytes, maxTimeoutMs, maxStreamTimeoutMs } = config;
  const running = new RunningCalls<ServerCall>();
  shutdown.addEventListener("abort", () => {
    for (const call of running) call.abort(shutdown.reason);
  });
  const common: CallOptions = { readMaxBytes, compressMinBytes, jsonOptions, stages, records, running, logger };
  const byPath = new Map<string, PreparedMethod>();
  for (const implementation of methods.values()) {
    const method = prepareMethod({ implementation, interceptors, readMaxBytes, writeMaxBytes, jsonOptions });
    byPath.set(method.requestPath, method);
  }

  return {
    take(exchange) {
      const method = byPath.get(exchange.path);
      if (method === undefined || shutdown.aborted) return false;
      const format = matchWireFormat(exchange, method.descriptor);
      if (format === undefined) return false;
      const call =
        method.descriptor.methodKind === "unary"
          ? new UnaryCall(exchange, method, format, maxTimeoutMs, common)
          : new StreamCall(exchange, method, format, maxStreamTimeoutMs, common);
      call.begin();
      return true;
    },
  };
}
