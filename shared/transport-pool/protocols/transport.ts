import type { Interceptor, Transport } from "@connectrpc/connect";
import type { Endpoint } from "../balancing/endpoint.ts";
import type { ServiceConfig } from "../config/service.ts";
import type { Next, SendTo } from "../interceptors/attempt.ts";
import { createCalls } from "./calls.ts";
import type { JsonOptions } from "./fallback.ts";
import { createPrepare, type ProtocolConfig } from "./prepare.ts";

export interface TransportOptions {
  readonly config: ProtocolConfig;
  /** What the URLs of calls begin with. */
  readonly origin: string;
  /** The first one outermost. */
  readonly interceptors: readonly Interceptor[];
  /** The end of the chain: picks an endpoint and sends the request there. */
  readonly attempt: (send: SendTo) => Next;
  readonly jsonOptions: JsonOptions | undefined;
}

/** Sends calls in one protocol over one HTTP version. */
export function createTransport({ config, origin, jsonOptions, ...calls }: TransportOptions): Transport {
  return createCalls({ ...calls, origin, prepare: createPrepare(config, origin, jsonOptions) });
}

/** A transport to one endpoint, for calls that belong to it, such as health checks. No interceptor sees them. */
export function transportTo(endpoint: Endpoint, config: ProtocolConfig): Transport {
  const attempt = (send: SendTo) => (request: Parameters<Next>[0]) => send(endpoint, request);
  return createTransport({
    config,
    origin: `http://${endpoint.address}`,
    interceptors: [],
    attempt,
    jsonOptions: undefined,
  });
}

/** What the URLs of a service's calls begin with. */
export function originOf({ address, tls }: Pick<ServiceConfig, "address" | "tls">): string {
  const host = address.scheme === "static" ? address.addresses[0] : address.authority;
  return new URL(`${address.tls || tls !== undefined ? "https" : "http"}://${host}`).origin;
}
