import type { JsonValue } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { errorFromJson } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";

/** Flags of the last envelope of a stream. */
const GRPC_WEB_TRAILERS = 0b1000_0000;
const CONNECT_END = 0b10;
const COMPRESSED = 0b1;

/**
 * The failure that an answer tells, in the words of its protocol; undefined for a success.
 *
 * @param last the last chunk of its body
 */
export function answeredError(
  { status, header, trailer }: UniversalServerResponse,
  last: Uint8Array | undefined,
): ConnectError | undefined {
  const contentType = header?.get("content-type") ?? "";
  if (trailer?.has("grpc-status")) return findTrailerError(trailer);
  const [flags = 0] = last ?? [];
  const isEnvelope = contentType.startsWith("application/grpc-web") || contentType.startsWith("application/connect+");
  if (isEnvelope && (flags & COMPRESSED) !== 0) return undefined;
  const text = Buffer.from(last ?? []).toString("utf8", isEnvelope ? 5 : 0);
  if (contentType.startsWith("application/grpc-web")) {
    return flags === GRPC_WEB_TRAILERS ? findTrailerError(parseHeaders(text)) : undefined;
  }
  if (contentType.startsWith("application/connect+")) {
    const { error } = flags === CONNECT_END ? (JSON.parse(text) as { error?: JsonValue }) : {};
    return error === undefined ? undefined : readJson(error);
  }
  if (status < 400) return undefined;
  return header?.has("content-encoding") ? unknownError() : readJson(JSON.parse(text) as JsonValue);
}

function parseHeaders(block: string): Headers {
  const headers = new Headers();
  for (const line of block.trim().split("\r\n")) {
    const [, name, value = ""] = /^([^:]+):(.*)$/.exec(line) ?? [];
    if (name !== undefined) headers.append(name, value.trim());
  }
  return headers;
}

function readJson(error: JsonValue): ConnectError {
  return errorFromJson(error, undefined, unknownError());
}

function unknownError(): ConnectError {
  return new ConnectError("the answer tells of an error", Code.Unknown);
}
