import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import type { ServiceConfig } from "../config/service.ts";
import type { SendTo } from "../interceptors/attempt.ts";
import type { PreparedMethod } from "./calls.ts";
import { connectFormat } from "./connect.ts";
import { createFallback, type JsonOptions } from "./fallback.ts";
import { grpcFormat } from "./grpc.ts";
import { pathOf } from "./request-path.ts";
import { sendStream } from "./stream.ts";
import { sendUnary } from "./unary.ts";
import type { RequestHeaders, WireFormat } from "./wire-format.ts";

export type ProtocolConfig = Pick<
  ServiceConfig,
  "protocol" | "http" | "readMaxBytes" | "codec" | "compression" | "compressMinBytes" | "useGet" | "fastPath"
>;

const compressions = { gzip: compressionGzip, br: compressionBrotli } as const;
const formats: { readonly [Protocol in ServiceConfig["protocol"]]?: WireFormat } = {
  grpc: grpcFormat,
  connect: connectFormat,
};

/**
 * Decides once for each method whether its calls take the fast path: gRPC and Connect with binary messages that are not
 * compressed, over HTTP/2, and unary ones over HTTP/1.1. All others take the fallback, Connect's own transport.
 */
export function createPrepare(
  config: ProtocolConfig,
  origin: string,
  jsonOptions: JsonOptions | undefined,
): (method: DescMethod, url: string) => PreparedMethod {
  const { protocol, readMaxBytes, codec, compression, compressMinBytes, useGet } = config;
  const fallback = createFallback({
    protocol,
    codec,
    sendCompression: compression === "none" ? undefined : compressions[compression],
    compressMinBytes,
    useHttpGet: useGet,
    readMaxBytes,
    origin,
    jsonOptions,
  });
  const isPlain = config.fastPath && codec === "binary" && compression === "none";

  return (method, url) => {
    const { pathname } = new URL(url);
    const isUnary = method.methodKind === "unary";
    const isGet = useGet && protocol === "connect" && method.idempotency === NO_SIDE_EFFECTS;
    const format = formats[protocol];
    const isFast = isPlain && format !== undefined && (isUnary ? !isGet : config.http === "2");
    if (!isFast) return { headers: fallbackHeaders(config, method), send: fallback };
    return fastMethod(format, method, readMaxBytes, (requestUrl) =>
      requestUrl === url ? pathname : pathOf(requestUrl, origin),
    );
  };
}

const { NO_SIDE_EFFECTS } = MethodOptions_IdempotencyLevel;

function fastMethod(
  format: WireFormat,
  method: DescMethod,
  readMaxBytes: number,
  path: (url: string) => string,
): PreparedMethod {
  const unary = method.methodKind === "unary" ? format.unary(method, readMaxBytes) : undefined;
  const stream = unary === undefined ? format.stream(method, readMaxBytes) : undefined;
  const send: SendTo = ({ subchannel }, request) => {
    if (!request.stream && unary !== undefined) return sendUnary(request, path(request.url), unary, subchannel);
    if (!request.stream || stream === undefined)
      throw new TypeError(`an interceptor has changed the kind of ${method.name}`);
    return sendStream(request, { path: path(request.url), format: stream, readMaxBytes, subchannel });
  };
  return { headers: (unary ?? stream) as RequestHeaders, send };
}

/** What interceptors see. Connect's transport sets the others. */
function fallbackHeaders({ protocol, codec }: ProtocolConfig, { methodKind }: DescMethod): RequestHeaders {
  const format = codec === "json" ? "json" : "proto";
  const type = {
    grpc: `application/grpc+${format}`,
    "grpc-web": `application/grpc-web+${format}`,
    connect: methodKind === "unary" ? `application/${format}` : `application/connect+${format}`,
  }[protocol];
  const timeout =
    protocol === "connect" ? { name: "connect-timeout-ms", suffix: "" } : { name: "grpc-timeout", suffix: "m" };
  return { header: ["content-type", type], timeout, omit: undefined };
}
