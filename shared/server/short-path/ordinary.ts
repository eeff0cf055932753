import type { IncomingMessage } from "node:http";

/** How a protocol puts a unary call on the wire. */
export interface UnaryDialect {
  readonly protocol: "grpc" | "grpc-web" | "connect";
  /** Protobuf, or else JSON. */
  readonly isBinary: boolean;
  /** The content type of answers. */
  readonly contentType: string;
  readonly timeoutHeader: "grpc-timeout" | "connect-timeout-ms";
  readonly encodingHeader: "grpc-encoding" | "content-encoding";
  readonly acceptHeader: "grpc-accept-encoding" | "accept-encoding";
}

const framed = {
  isBinary: true,
  timeoutHeader: "grpc-timeout",
  encodingHeader: "grpc-encoding",
  acceptHeader: "grpc-accept-encoding",
} as const;
const plain = {
  protocol: "connect",
  timeoutHeader: "connect-timeout-ms",
  encodingHeader: "content-encoding",
  acceptHeader: "accept-encoding",
} as const;
const grpc: UnaryDialect = { protocol: "grpc", contentType: "application/grpc+proto", ...framed };
const grpcWeb: UnaryDialect = { protocol: "grpc-web", contentType: "application/grpc-web+proto", ...framed };

/** By the content type of requests, as all clients but the odd write it. */
const dialects: ReadonlyMap<string, UnaryDialect> = new Map([
  ["application/grpc", grpc],
  ["application/grpc+proto", grpc],
  ["application/grpc-web", grpcWeb],
  ["application/grpc-web+proto", grpcWeb],
  ["application/proto", { contentType: "application/proto", isBinary: true, ...plain }],
  ["application/json", { contentType: "application/json", isBinary: false, ...plain }],
]);

/** Those of ordinary calls. */
export const contentTypes: readonly string[] = [...dialects.keys()];

export interface OrdinaryOptions {
  readonly requestPath: string;
  /** The timeout that holds for the call; undefined when its header is malformed. */
  readonly timeoutMs: number | undefined;
  readonly readMaxBytes: number;
}

/**
 * Says which unary calls take the short path, by their headers: a plain POST in one of the protocols, not compressed,
 * with a timeout that can be kept. Whatever is odd is for Connect's own handlers, which know what to answer; so is,
 * later, a body that is not just the one message that the headers promise (see message-reader.ts).
 */
export function ordinaryDialect(
  { method, url, headers, httpVersionMajor }: Pick<IncomingMessage, "method" | "url" | "headers" | "httpVersionMajor">,
  { requestPath, timeoutMs = 0, readMaxBytes }: OrdinaryOptions,
): UnaryDialect | undefined {
  const dialect = dialects.get(headers["content-type"] ?? "");
  if (dialect === undefined) return undefined;
  // A query is no part of a POST.
  if (method !== "POST" || url !== requestPath) return undefined;
  // gRPC without HTTP/2 is no gRPC.
  if (dialect.protocol === "grpc" && httpVersionMajor !== 2) return undefined;
  const encoding = headers[dialect.encodingHeader];
  if (encoding !== undefined && encoding !== "identity") return undefined;
  // A deadline that is over before it can be measured.
  if (timeoutMs < 1) return undefined;
  if (dialect.protocol === "connect") {
    const version = headers["connect-protocol-version"];
    if (version !== undefined && version !== "1") return undefined;
    const length = headers["content-length"];
    if (length !== undefined && !(/^\d{1,10}$/.test(length) && Number(length) <= readMaxBytes)) return undefined;
  }
  return dialect;
}
