import type { JsonReadOptions, JsonWriteOptions } from "@bufbuild/protobuf";
import type { Transport } from "@connectrpc/connect";
import type { Compression, UniversalClientFn } from "@connectrpc/connect/protocol";
import { createTransport as createConnectTransport } from "@connectrpc/connect/protocol-connect";
import { createTransport as createGrpcTransport } from "@connectrpc/connect/protocol-grpc";
import { createTransport as createGrpcWebTransport } from "@connectrpc/connect/protocol-grpc-web";
import type { Endpoint } from "../balancing/endpoint.ts";
import { outgoingCallKey } from "../call/outgoing-call.ts";
import type { Request, Response } from "../interceptors/attempt.ts";
import { acceptCompression } from "./codec.ts";
import { readableBody, readableFields } from "./readable-errors.ts";
import { pathOf } from "./request-path.ts";
import { UniversalExchange } from "./universal-client.ts";

export interface FallbackOptions {
  readonly protocol: "grpc" | "grpc-web" | "connect";
  readonly codec: "binary" | "json";
  /** Of requests. */
  readonly sendCompression: Compression | undefined;
  readonly compressMinBytes: number;
  /** Connect calls of methods without side effects by GET. */
  readonly useHttpGet: boolean;
  readonly readMaxBytes: number;
  /** What the URLs of calls begin with. */
  readonly origin: string;
  readonly jsonOptions: JsonOptions | undefined;
}

/** How messages are read from JSON and written. A registry is needed for google.protobuf.Any. */
export type JsonOptions = Partial<JsonReadOptions & JsonWriteOptions>;

const createTransport = {
  grpc: createGrpcTransport,
  "grpc-web": createGrpcWebTransport,
  connect: createConnectTransport,
} as const;

const MAX_MESSAGE_BYTES = 2 ** 32 - 1;

/**
 * Sends one attempt of a call by Connect's own transport, on the pool's connections. For all that the fast path does not
 * know: it costs about five times as much CPU.
 */
export function createFallback(options: FallbackOptions): (endpoint: Endpoint, request: Request) => Promise<Response> {
  const { protocol, codec, sendCompression, compressMinBytes, useHttpGet, readMaxBytes, origin, jsonOptions } = options;
  const common = {
    baseUrl: origin,
    useBinaryFormat: codec === "binary",
    interceptors: [],
    acceptCompression,
    sendCompression: sendCompression ?? null,
    // Connect compresses what is larger than this: with 0 an empty message would have none of the encoding it names.
    compressMinBytes: compressMinBytes - 1,
    readMaxBytes,
    writeMaxBytes: MAX_MESSAGE_BYTES,
    useHttpGet,
    ...(jsonOptions === undefined ? {} : { jsonOptions }),
  };

  /** One transport for each attempt: it is two closures, and its client knows the endpoint. */
  function transportTo(endpoint: Endpoint, request: Request): Transport {
    const httpClient: UniversalClientFn = async (universal) => {
      const exchange = new UniversalExchange(universal, {
        subchannel: endpoint.subchannel,
        path: pathFor(request, universal.url),
        isUnary: !request.stream,
        call: request.contextValues.get(outgoingCallKey),
        readable: protocol === "connect" ? (fields) => fields : readableFields,
      });
      void exchange.begin();
      const response = await exchange.response;
      return { ...response, body: readableBody(response, protocol, request.stream) };
    };
    return createTransport[protocol]({ ...common, httpClient });
  }

  /** An interceptor may have put another URL in place; Connect adds the query of a GET to the method's own. */
  function pathFor(request: Request, url: string): string {
    const { search } = new URL(url);
    return pathOf(request.url, origin) + search;
  }

  return (endpoint, request) => {
    const { signal, header, contextValues } = request;
    const transport = transportTo(endpoint, request);
    return request.stream
      ? transport.stream(request.method, signal, undefined, header, request.message, contextValues)
      : transport.unary(request.method, signal, undefined, header, request.message, contextValues);
  };
}
