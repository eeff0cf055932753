import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { contextHeaders } from "#shared/call-context";
import { COMPRESSED_FLAG, encodeFrame, frameMessages, isTransportHeader } from "#shared/rpc";
import { type HeaderFields, LazyHeaders } from "#shared/unread";
import { fieldBytes, type ServerExchange } from "../http/exchange.ts";
import type { JsonOptions } from "./codec.ts";
import type { Compression } from "./compression.ts";
import { addMetadata, errorToJson, httpStatusOf, setGrpcStatus } from "./status.ts";
import type { WireFormat } from "./wire-format.ts";

/** What the encoder needs of a call. */
export interface Responding {
  readonly exchange: ServerExchange;
  readonly format: WireFormat;
  readonly context: HandlerContext;
  /** What messages are compressed with. */
  readonly compression: Compression | null;
  readonly compressMinBytes: number;
  readonly jsonOptions: JsonOptions;
  /** Called when the details of a failure did not fit into the response. */
  onTrimmed(): void;
}

const OK_TRAILERS: HeaderFields = { "grpc-status": "0" };
const OK_TRAILER_FRAME = encodeFrame(0b1000_0000, Buffer.from("grpc-status: 0\r\n"));

/**
 * Writes the whole response of a unary call.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED, before anything is written, for headers that the peer does not accept
 */
export function respondMessage(call: Responding, message: Uint8Array<ArrayBuffer>): void | Promise<void> {
  const { compression, compressMinBytes } = call;
  if (compression === null || message.length < compressMinBytes) {
    respondEncoded(call, message, false);
    return;
  }
  return compression.compress(message).then((bytes) => respondEncoded(call, bytes, true));
}

function respondEncoded(call: Responding, message: Uint8Array, isCompressed: boolean): void {
  const { exchange, format, context } = call;
  if (exchange.state !== "open") return;
  const { responseHeader, responseTrailer } = context;
  if (!exchange.hasRoomFor(message.length)) throw tooMuchUnread();
  if (!format.isFramed) {
    if (isCompressed) responseHeader.set("content-encoding", call.compression?.name ?? "");
    exchange.respond(200, boundedFields(call, withTrailers(responseHeader, responseTrailer)), message);
    return;
  }
  const body = isCompressed ? encodeFrame(COMPRESSED_FLAG, message) : frameMessages([message]);
  if (format.protocol === "grpc") {
    exchange.respond(200, headFields(call), body, trailerFields(call));
  } else {
    exchange.respond(200, headFields(call), Buffer.concat([body, webTrailerFrame(responseTrailer)]));
  }
}

function tooMuchUnread(): ConnectError {
  return new ConnectError(
    "the client leaves too much of its responses unread on this connection",
    Code.ResourceExhausted,
  );
}

/**
 * Writes a failure as the whole response: in gRPC over HTTP/2 as Trailers-Only, by which callers may retry (gRFC A6). A stream
 * whose handler has set headers sends them as headers, as grpc-go does.
 */
export function respondFailure(call: Responding, error: ConnectError): void {
  const { exchange, format, context, jsonOptions } = call;
  const { responseHeader, responseTrailer } = context;
  if (!format.isFramed) {
    responseHeader.set("content-type", "application/json");
    responseHeader.delete("content-encoding");
    addMetadata(responseHeader, error);
    const body = Buffer.from(JSON.stringify(errorToJson(error, jsonOptions)));
    exchange.respond(httpStatusOf(error.code), fitHeader(call, withTrailers(responseHeader, responseTrailer)), body);
    return;
  }
  if (format.protocol !== "grpc") {
    exchange.respond(200, fitHeader(call, responseHeader), endFrame(call, error));
    return;
  }
  const header = fitHeader(call, responseHeader);
  const room = exchange.maxHeaderBytes - sizeOf(header) - fieldBytes(":status", "200");
  if (setGrpcStatus(responseTrailer, error, room)) call.onTrimmed();
  if (context.method.methodKind !== "unary" && hasOwnHeaders(responseHeader.keys())) {
    exchange.writeHead(200, header);
    exchange.end(undefined, toFields(responseTrailer));
  } else exchange.respond(200, header, undefined, toFields(responseTrailer));
}

/** Whether the headers of a gRPC response have more than the protocol and the server set. */
export function hasOwnHeaders(names: Iterable<string>): boolean {
  for (const name of names) {
    if (name !== "content-type" && name !== contextHeaders.requestId && !name.startsWith("grpc-")) return true;
  }
  return false;
}

/** Writes the head of a stream of responses. @throws ConnectError RESOURCE_EXHAUSTED as `respondMessage` does */
export function writeStreamHead(call: Responding): void {
  call.exchange.writeHead(200, headFields(call));
}

/** Writes the end of a stream whose head has been written. */
export function endStream(call: Responding, error: ConnectError | undefined, rest: Uint8Array | undefined): void {
  const { exchange, format, context } = call;
  if (format.protocol !== "grpc") {
    const frame = endFrame(call, error);
    exchange.end(rest === undefined ? frame : Buffer.concat([rest, frame]));
    return;
  }
  const { responseTrailer } = context;
  if (error !== undefined) {
    if (setGrpcStatus(responseTrailer, error, exchange.maxHeaderBytes)) call.onTrimmed();
    exchange.end(rest, toFields(responseTrailer));
    return;
  }
  let trailers: HeaderFields;
  try {
    trailers = trailerFields(call);
  } catch (failure) {
    for (const name of [...responseTrailer.keys()]) responseTrailer.delete(name);
    setGrpcStatus(responseTrailer, failure as ConnectError, exchange.maxHeaderBytes);
    trailers = toFields(responseTrailer);
  }
  exchange.end(rest, trailers);
}

/** The frame that ends a stream of gRPC-Web or Connect. */
function endFrame({ format, context, jsonOptions }: Responding, error: ConnectError | undefined): Buffer {
  const { responseTrailer } = context;
  if (format.protocol === "grpc-web") {
    if (error !== undefined) setGrpcStatus(responseTrailer, error, Number.POSITIVE_INFINITY);
    return webTrailerFrame(responseTrailer);
  }
  const end: Record<string, unknown> = {};
  if (error !== undefined) {
    end["error"] = errorToJson(error, jsonOptions);
    addMetadata(responseTrailer, error);
  }
  const metadata: Record<string, string[]> = {};
  responseTrailer.forEach((value, name) => {
    metadata[name] = [value];
  });
  if (Object.keys(metadata).length > 0) end["metadata"] = metadata;
  return encodeFrame(format.endFlag, Buffer.from(JSON.stringify(end)));
}

function webTrailerFrame(trailer: Headers): Buffer {
  if (!isTouched(trailer)) return OK_TRAILER_FRAME;
  let block = "";
  trailer.forEach((value, name) => {
    if (!isTransportHeader(name)) block += `${name}: ${value}\r\n`;
  });
  return encodeFrame(0b1000_0000, Buffer.from(block, "latin1"));
}

/** Unary Connect has trailers among the headers. */
function withTrailers(header: Headers, trailer: Headers): Headers {
  if (!isTouched(trailer)) return header;
  const muxed = new Headers(header);
  trailer.forEach((value, name) => {
    muxed.append(`trailer-${name}`, value);
  });
  return muxed;
}

function headFields(call: Responding): HeaderFields {
  const { format, compression, context } = call;
  const { responseHeader } = context;
  // An interceptor may have put other headers in place of those that the response began with.
  if (compression !== null && !responseHeader.has(format.encodingHeader)) {
    responseHeader.set(format.encodingHeader, compression.name);
  }
  return boundedFields(call, responseHeader);
}

function trailerFields(call: Responding): HeaderFields {
  const { responseTrailer } = call.context;
  return isTouched(responseTrailer) ? boundedFields(call, responseTrailer) : OK_TRAILERS;
}

function boundedFields({ exchange }: Responding, headers: Headers): HeaderFields {
  const fields = toFields(headers);
  if (!isTouched(headers)) return fields;
  const bytes = sizeOf(fields);
  if (bytes <= exchange.maxHeaderBytes) return fields;
  throw new ConnectError(
    `the response's metadata of ${bytes} bytes is larger than the ${exchange.maxHeaderBytes} that the peer accepts`,
    Code.ResourceExhausted,
  );
}

/** Of a failure: metadata that the peer does not accept is left out. */
function fitHeader(call: Responding, headers: Headers): HeaderFields {
  const fields = toFields(headers);
  // Half is the failure's own.
  if (sizeOf(fields) <= call.exchange.maxHeaderBytes / 2) return fields;
  call.onTrimmed();
  return { "content-type": headers.get("content-type") ?? call.format.contentType };
}

function isTouched(headers: Headers): boolean {
  return !(headers instanceof LazyHeaders) || headers.untouched === undefined;
}

function toFields(headers: Headers): HeaderFields {
  if (headers instanceof LazyHeaders && headers.fields !== undefined) return headers.fields;
  const fields: Record<string, string | string[]> = Object.create(null);
  for (const [name, value] of headers) if (name !== "set-cookie") fields[name] = value;
  const cookies = headers.getSetCookie();
  if (cookies.length > 0) fields["set-cookie"] = cookies;
  return fields;
}

function sizeOf(fields: HeaderFields): number {
  let bytes = 0;
  for (const name in fields) {
    const value = fields[name];
    if (typeof value === "string") bytes += fieldBytes(name, value);
    else for (const item of value ?? []) bytes += fieldBytes(name, item);
  }
  return bytes;
}
