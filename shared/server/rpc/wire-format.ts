import type { DescMethod } from "@bufbuild/protobuf";
import type { ServerExchange } from "../http/exchange.ts";

/** How a call is put on the wire. */
export interface WireFormat {
  readonly protocol: "grpc" | "grpc-web" | "connect";
  /** Protobuf, or else JSON. */
  readonly isBinary: boolean;
  /** Whether messages have a length prefix: all but those of unary Connect. */
  readonly isFramed: boolean;
  /** Content type of responses. */
  readonly contentType: string;
  readonly timeoutHeader: "grpc-timeout" | "connect-timeout-ms";
  /** Names the encoding of messages. */
  readonly encodingHeader: "grpc-encoding" | "connect-content-encoding" | "content-encoding";
  readonly acceptHeader: "grpc-accept-encoding" | "connect-accept-encoding" | "accept-encoding";
  /** Flag of the frame that ends a stream. 0: there is none. */
  readonly endFlag: number;
}

const grpc = {
  protocol: "grpc",
  isFramed: true,
  timeoutHeader: "grpc-timeout",
  encodingHeader: "grpc-encoding",
  acceptHeader: "grpc-accept-encoding",
  endFlag: 0,
} as const;
const grpcWeb = { ...grpc, protocol: "grpc-web", endFlag: 0b1000_0000 } as const;
const connectStream = {
  protocol: "connect",
  isFramed: true,
  timeoutHeader: "connect-timeout-ms",
  encodingHeader: "connect-content-encoding",
  acceptHeader: "connect-accept-encoding",
  endFlag: 0b10,
} as const;
const connectUnary = {
  protocol: "connect",
  isFramed: false,
  timeoutHeader: "connect-timeout-ms",
  encodingHeader: "content-encoding",
  acceptHeader: "accept-encoding",
  endFlag: 0,
} as const;

const grpcProto: WireFormat = { ...grpc, isBinary: true, contentType: "application/grpc+proto" };
const grpcWebProto: WireFormat = { ...grpcWeb, isBinary: true, contentType: "application/grpc-web+proto" };
const connectJson: WireFormat = { ...connectUnary, isBinary: false, contentType: "application/json" };

const framed: readonly [string, WireFormat][] = [
  ["application/grpc", grpcProto],
  ["application/grpc+proto", grpcProto],
  ["application/grpc+json", { ...grpc, isBinary: false, contentType: "application/grpc+json" }],
  ["application/grpc-web", grpcWebProto],
  ["application/grpc-web+proto", grpcWebProto],
  ["application/grpc-web+json", { ...grpcWeb, isBinary: false, contentType: "application/grpc-web+json" }],
];

/** By the content type of requests, as clients write it. */
const unaryFormats: ReadonlyMap<string, WireFormat> = new Map([
  ...framed,
  ["application/proto", { ...connectUnary, isBinary: true, contentType: "application/proto" }],
  ["application/json", connectJson],
  ["application/json; charset=utf-8", connectJson],
]);
const streamFormats: ReadonlyMap<string, WireFormat> = new Map([
  ...framed,
  ["application/connect+proto", { ...connectStream, isBinary: true, contentType: "application/connect+proto" }],
  ["application/connect+json", { ...connectStream, isBinary: false, contentType: "application/connect+json" }],
]);

/** Content types of the calls that the fast path serves. */
export const contentTypes: readonly string[] = [...new Set([...unaryFormats.keys(), ...streamFormats.keys()])];

/**
 * Decides from its head alone whether the fast path serves a call: POST with a content type as clients write it, in a
 * protocol that this HTTP version can carry. Undefined is the fallback's.
 */
export function matchWireFormat(
  { method, headers, httpVersion }: ServerExchange,
  { methodKind }: DescMethod,
): WireFormat | undefined {
  // Connect's GET is the fallback's.
  if (method !== "POST" || headers.expect !== undefined) return undefined;
  const formats = methodKind === "unary" ? unaryFormats : streamFormats;
  const format = formats.get(headers["content-type"] ?? "");
  if (format === undefined || httpVersion === "2") return format;
  // gRPC needs trailers, and over HTTP/1.1 a response cannot be relied on to come before the request's end.
  return format.protocol === "grpc" || methodKind === "bidi_streaming" ? undefined : format;
}
