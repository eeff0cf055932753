import type { Interceptor, Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import type { Logger } from "#shared/logging";
import { callSignalInterceptor } from "./call-signal.ts";
import type { ServiceConfig } from "./config.ts";
import { inheritCall } from "./inherit-call.ts";
import { logInterceptor } from "./log-interceptor.ts";
import { markErrorsInterceptor } from "./mark-errors.ts";
import { resendInterceptor } from "./resend-interceptor.ts";
import type { Subchannel } from "./subchannel.ts";

export interface ServiceTransportOptions {
  readonly service: ServiceConfig;
  readonly subchannel: Subchannel;
  readonly logger: Logger;
  /** This service's name. */
  readonly caller: string;
  /** The user's own. */
  readonly interceptors: readonly Interceptor[];
}

const createStockTransport = {
  grpc: createGrpcTransport,
  connect: createConnectTransport,
  "grpc-web": createGrpcWebTransport,
} as const;

/** What a call to one service goes through, from the outside in: inherit → mark → log → the user's own → resend → HTTP/2. */
export function createServiceTransport(options: ServiceTransportOptions): Transport {
  const { service, subchannel, logger, caller } = options;
  const log = logInterceptor({ logger, service: service.name, peer: service.address });
  const stock = createStockTransport[service.protocol]({
    httpVersion: "2",
    baseUrl: subchannel.authority,
    sessionManager: subchannel,
    readMaxBytes: service.readMaxBytes,
    interceptors: [
      markErrorsInterceptor(service.name),
      log,
      ...options.interceptors,
      resendInterceptor,
      callSignalInterceptor,
    ],
  });
  return inheritCall(stock, { caller, timeoutMs: service.timeoutMs });
}
