/** What goes over the wire. */
export interface Wire {
  readonly protocol: "grpc" | "grpc-web" | "connect";
  readonly http: "2" | "1.1";
}

/** A peer on one wire: a server and a client of it, each in a process of its own. */
export interface Variant {
  readonly peer: "raw" | "raw-full" | "grpc-js" | "grpc-js-full" | "stock" | "meridian-bare" | "meridian";
  readonly wire: Wire;
  /** Whether the gateway, in a third process, stands between the two. */
  readonly gateway: boolean;
}

const grpc: Wire = { protocol: "grpc", http: "2" };
const grpcWeb: Wire = { protocol: "grpc-web", http: "2" };
const connectHttp2: Wire = { protocol: "connect", http: "2" };
const connectHttp1: Wire = { protocol: "connect", http: "1.1" };

/** By the name that `--only` takes. */
export const variants = {
  /** `node:http2`, gRPC's framing by hand, protobuf-es: nothing that speaks gRPC in JavaScript can cost much less. */
  raw: { peer: "raw", wire: grpc, gateway: false },
  /** The same with a deadline, `traceparent` and `x-request-id`, as callers in production send them. */
  "raw-full": { peer: "raw-full", wire: grpc, gateway: false },
  /** @grpc/grpc-js with protobuf-es for its messages, so that only the transport differs. */
  "grpc-js": { peer: "grpc-js", wire: grpc, gateway: false },
  /** The same with a deadline, `traceparent` and `x-request-id`: the reference, since Meridian always sends them. */
  "grpc-js-full": { peer: "grpc-js-full", wire: grpc, gateway: false },
  /** Connect as it comes: its Fastify plugin and its Node transports, no interceptors. */
  stock: { peer: "stock", wire: grpc, gateway: false },
  /** No validation, no log, no retry, breaker, outlier ejection or keepalive. */
  "meridian-bare": { peer: "meridian-bare", wire: grpc, gateway: false },
  /** Every policy on, and a line of log for each call on both sides where the level says so. */
  meridian: { peer: "meridian", wire: grpc, gateway: false },
  "stock-connect-h2": { peer: "stock", wire: connectHttp2, gateway: false },
  "meridian-connect-h2": { peer: "meridian", wire: connectHttp2, gateway: false },
  "stock-connect-h1": { peer: "stock", wire: connectHttp1, gateway: false },
  "meridian-connect-h1": { peer: "meridian", wire: connectHttp1, gateway: false },
  "meridian-grpc-web-h2": { peer: "meridian", wire: grpcWeb, gateway: false },
  "meridian-gateway": { peer: "meridian", wire: grpc, gateway: true },
} as const satisfies Record<string, Variant>;

export type VariantName = keyof typeof variants;

export const variantNames = Object.keys(variants) as VariantName[];
