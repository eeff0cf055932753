import { type DescMessage, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { compressionBrotli, compressionGzip } from "@connectrpc/connect-node";
import { parseLater, type Serialization, serializeUnread } from "#shared/unread";

/** Compressions that responses may have, the preferred one first. */
export const acceptCompression: Compression[] = [compressionGzip, compressionBrotli];

const MAX_MESSAGE_BYTES = 2 ** 32 - 1;

/** Reads and writes the messages of one method, in binary. */
export interface Codec {
  serialize(message: Message): Uint8Array;
  parse(bytes: Uint8Array): Message;
  /** Leaves the message unread, for calls whose request was left unread: both are passed on. */
  parseUnread(bytes: Uint8Array): Message;
}

export function createCodec(method: DescMethod, readMaxBytes: number): Codec {
  const output = binary(method.output);
  return {
    serialize: serializeUnread(binary(method.input), MAX_MESSAGE_BYTES),
    parse: output.parse,
    parseUnread: parseLater(method.output, output, readMaxBytes),
  };
}

/** In the words of Connect, whose own function for this is not exported. */
function binary(desc: DescMessage): Serialization<Message> {
  return {
    parse(bytes) {
      try {
        return fromBinary(desc, bytes);
      } catch (error) {
        throw new ConnectError(`parse binary: ${messageOf(error)}`, Code.Internal);
      }
    },
    serialize(message) {
      try {
        return toBinary(desc, message);
      } catch (error) {
        throw new ConnectError(`serialize binary: ${messageOf(error)}`, Code.Internal);
      }
    },
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** @throws ConnectError with RESOURCE_EXHAUSTED */
export function assertReadable(bytes: number, readMaxBytes: number, isWhole: boolean): void {
  if (bytes <= readMaxBytes) return;
  const size = isWhole ? ` ${bytes}` : "";
  const message = `message size${size} is larger than configured readMaxBytes ${readMaxBytes}`;
  throw new ConnectError(message, Code.ResourceExhausted);
}

/** The compression that a response's header names; undefined for none. @throws ConnectError when it is not accepted */
export function compressionOf(name: string | undefined, metadata: () => Headers): Compression | undefined {
  if (name === undefined || name.toLowerCase() === "identity") return undefined;
  const compression = acceptCompression.find((one) => one.name === name);
  if (compression !== undefined) return compression;
  throw new ConnectError(`unsupported response encoding "${name}"`, Code.Internal, metadata());
}

/** @throws ConnectError */
export function decompress(
  bytes: Uint8Array,
  compression: Compression | undefined,
  readMaxBytes: number,
): Promise<Uint8Array> {
  if (compression !== undefined) return compression.decompress(bytes as Uint8Array<ArrayBuffer>, readMaxBytes);
  const message = "received compressed envelope, but do not know how to decompress";
  return Promise.reject(new ConnectError(message, Code.Internal));
}

/** Bytes `from` … `to` of the chunks, in memory of their own: a message must not keep what else came with it. */
export function bytesOf(chunks: readonly Buffer[], from: number, to: number): Uint8Array {
  const bytes = new Uint8Array(to - from);
  let at = -from;
  for (const chunk of chunks) {
    bytes.set(at < 0 ? chunk.subarray(-at) : chunk, Math.max(at, 0));
    at += chunk.length;
  }
  return bytes;
}

/** Status code of a call whose response has this HTTP status (http-grpc-status-mapping.md; Connect's table is the same). */
export function codeOfHttpStatus(status: number): Code {
  switch (status) {
    case 400:
      return Code.Internal;
    case 401:
      return Code.Unauthenticated;
    case 403:
      return Code.PermissionDenied;
    case 404:
      return Code.Unimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return Code.Unavailable;
    default:
      return Code.Unknown;
  }
}
