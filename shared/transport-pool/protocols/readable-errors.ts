import type { IncomingHttpHeaders } from "node:http2";
import type { UniversalClientResponse } from "@connectrpc/connect/protocol";
import { PREFIX_BYTES } from "#shared/rpc";
import { connectErrorOf, parseJson } from "./connect-error.ts";
import { decodeStatus, isDecodable } from "./grpc-status.ts";

// Connect's own code gives up the code of a failure when it cannot read its message or one of its details. What it gets is
// made readable first.

/** gRPC's fields with a message that can be decoded, and without details that cannot. The same object when all can be. */
export function readableFields(fields: IncomingHttpHeaders): IncomingHttpHeaders {
  const { "grpc-message": message, "grpc-status-details-bin": details } = fields;
  const isMessageBad = typeof message === "string" && !isDecodable(message);
  const isDetailBad = typeof details === "string" && decodeStatus(details) === undefined;
  if (!isMessageBad && !isDetailBad) return fields;
  const readable = { ...fields };
  if (isMessageBad) readable["grpc-message"] = encodeURIComponent(message);
  if (isDetailBad) delete readable["grpc-status-details-bin"];
  return readable;
}

/** The body, with a readable error where one is in it. */
export function readableBody(
  { status, header, body }: UniversalClientResponse,
  protocol: "grpc" | "grpc-web" | "connect",
  isStream: boolean,
): AsyncIterable<Uint8Array> {
  if (protocol === "grpc") return body;
  if (protocol === "grpc-web") return rewriteLastFrame(body, WEB_TRAILERS, readableTrailers);
  if (isStream) return rewriteLastFrame(body, END_STREAM, readableEndStream);
  const isError = status !== 200 && header.get("content-encoding") === null;
  return isError ? rewriteAll(body) : body;
}

const END_STREAM = 2;
const WEB_TRAILERS = 0x80;
const COMPRESSED = 1;
/** An error, or trailers, larger than this pass as they are. */
const MAX_REWRITTEN_BYTES = 1024 * 1024;

/** Passes the frames on, the one with the flag as `rewrite` makes it. */
async function* rewriteLastFrame(
  body: AsyncIterable<Uint8Array>,
  flag: number,
  rewrite: (bytes: Uint8Array) => Uint8Array,
): AsyncGenerator<Uint8Array, void> {
  let held: Uint8Array = new Uint8Array(0);
  /** Of the frame that is passed on. */
  let left = 0;
  for await (const chunk of body) {
    let bytes: Uint8Array = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    held = new Uint8Array(0);
    while (bytes.length > 0) {
      if (left > 0) {
        const part = bytes.subarray(0, left);
        left -= part.length;
        bytes = bytes.subarray(part.length);
        yield part;
        continue;
      }
      if (bytes.length < PREFIX_BYTES) break;
      const flags = bytes[0] ?? 0;
      const size = Buffer.from(bytes.buffer, bytes.byteOffset, PREFIX_BYTES).readUInt32BE(1);
      if ((flags & flag) === 0 || (flags & COMPRESSED) !== 0 || size > MAX_REWRITTEN_BYTES) {
        left = PREFIX_BYTES + size;
        continue;
      }
      if (bytes.length < PREFIX_BYTES + size) break;
      const frame = rewrite(bytes.subarray(PREFIX_BYTES, PREFIX_BYTES + size));
      bytes = bytes.subarray(PREFIX_BYTES + size);
      yield Buffer.concat([prefixOf(flags, frame.length), frame]);
    }
    held = bytes;
  }
  if (held.length > 0) yield held;
}

async function* rewriteAll(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    chunks.push(chunk);
    if (length <= MAX_REWRITTEN_BYTES) continue;
    yield* chunks.splice(0);
  }
  if (length > MAX_REWRITTEN_BYTES) {
    yield* chunks;
    return;
  }
  const bytes = Buffer.concat(chunks);
  const json = parseJson(bytes);
  const error = json === undefined ? undefined : readableJson(json);
  // Connect expects as many bytes as the header promised.
  yield error === undefined ? bytes : Buffer.from(JSON.stringify(error).padEnd(bytes.toString().length));
}

/** The error without what cannot be read; undefined when all can be. */
function readableJson(json: unknown): object | undefined {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return undefined;
  const { message, details } = json as { message?: unknown; details?: unknown };
  const all = Array.isArray(details) ? details : [];
  const isGood = all.map((detail) => connectErrorOf({ details: [detail] }, NO_HEADERS, UNKNOWN).details.length === 1);
  const isMessageBad = message !== undefined && message !== null && typeof message !== "string";
  if (!isMessageBad && isGood.every(Boolean)) return undefined;
  return {
    ...json,
    ...(isMessageBad ? { message: "" } : {}),
    details: all.filter((_, index) => isGood[index]),
  };
}

const NO_HEADERS = new Headers();
const UNKNOWN = { code: 2, message: "" };

function readableEndStream(bytes: Uint8Array): Uint8Array {
  const json = parseJson(bytes) as { error?: unknown } | undefined;
  const error = readableJson(json?.error);
  return error === undefined ? bytes : Buffer.from(JSON.stringify({ ...json, error }));
}

/** Of gRPC-Web, which come in the body as text. */
function readableTrailers(bytes: Uint8Array): Uint8Array {
  const lines = Buffer.from(bytes).toString("latin1").split("\r\n");
  const readable = lines.flatMap((line) => {
    const [, name = "", value = ""] = /^\s*([^:]*?)\s*:\s*(.*?)\s*$/.exec(line) ?? [];
    const key = name.toLowerCase();
    if (key !== "grpc-message" && key !== "grpc-status-details-bin") return [line];
    const field = readableFields({ [key]: value })[key];
    return field === undefined ? [] : [`${key}: ${field}`];
  });
  return Buffer.from(readable.join("\r\n"), "latin1");
}

function prefixOf(flags: number, length: number): Buffer {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix[0] = flags;
  prefix.writeUInt32BE(length, 1);
  return prefix;
}
