import type { Interceptor, Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import type { Endpoint } from "../balancing/endpoint.ts";
import type { ServiceConfig } from "../config/service.ts";
import type { Http1Subchannel } from "../connections/subchannel.ts";
import { currentAttempt, runInAttempt } from "./attempt.ts";
import { http1ErrorsInterceptor } from "./http1-errors.ts";

const createHttp2Transport = {
  grpc: createGrpcTransport,
  connect: createConnectTransport,
  "grpc-web": createGrpcWebTransport,
} as const;

/**
 * Connect's own transport, which sends each attempt to the endpoint that was chosen for it.
 *
 * @param authority what the URLs of calls name
 */
export function createStockTransport(
  config: Pick<ServiceConfig, "protocol" | "http" | "readMaxBytes">,
  authority: string,
  interceptors: Interceptor[],
): Transport {
  const common = { baseUrl: authority, readMaxBytes: config.readMaxBytes, interceptors };
  if (config.http === "1.1") {
    return createConnectTransport({
      ...common,
      interceptors: [...interceptors, http1ErrorsInterceptor],
      httpVersion: "1.1",
      nodeOptions: {
        // Both are read anew for each request.
        get agent() {
          return http1Subchannel().agent;
        },
        get headers() {
          return { host: http1Subchannel().authority };
        },
      },
    });
  }
  return createHttp2Transport[config.protocol]({
    ...common,
    httpVersion: "2",
    sessionManager: {
      authority,
      async request(method, path, headers, options) {
        const { endpoint, signal } = currentAttempt();
        const { subchannel } = endpoint;
        if (!("request" in subchannel)) throw new TypeError(`${endpoint.address} is not called by HTTP/2`);
        return subchannel.request({ ...headers, ":method": method, ":path": path }, options, signal);
      },
      notifyResponseByteRead() {
        // The connections count bytes themselves.
      },
    },
  });
}

/** A transport to this one endpoint, for calls that belong to it, such as health checks. No policy has a hand in them. */
export function transportTo(
  endpoint: Endpoint,
  config: Pick<ServiceConfig, "protocol" | "http" | "readMaxBytes">,
): Transport {
  return createStockTransport(config, `http://${endpoint.address}`, [
    (next) => (req) => runInAttempt({ endpoint, signal: req.signal }, () => next(req)),
  ]);
}

function http1Subchannel(): Http1Subchannel {
  const { endpoint } = currentAttempt();
  if (!("agent" in endpoint.subchannel)) throw new TypeError(`${endpoint.address} is not called by HTTP/1.1`);
  return endpoint.subchannel;
}
