import type { IncomingHttpHeaders } from "node:http2";
import { BinaryReader, base64Decode } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

const STATUS = "grpc-status";
const MESSAGE = "grpc-message";
const DETAILS = "grpc-status-details-bin";

/**
 * The failure that headers or trailers tell of; undefined when they tell of none. Whatever cannot be read of the message or
 * of the details is kept as raw text or dropped: it never replaces the code.
 *
 * @param metadata of the error, asked for when there is one
 */
export function grpcError(fields: IncomingHttpHeaders | undefined, metadata: () => Headers): ConnectError | undefined {
  const text = textOf(fields?.[STATUS]);
  const details = textOf(fields?.[DETAILS]);
  if (details === undefined && (text === undefined || text === "0")) return undefined;
  const status = details === undefined ? undefined : decodeStatus(details);
  const code = codeOf(status?.code, text);
  if (code === 0 && (text === undefined || text === "0")) return undefined;
  const isKnown = code !== undefined && code !== 0 && code in Code;
  const message = status?.message ?? decodeMessage(textOf(fields?.[MESSAGE]) ?? "");
  const error = new ConnectError(
    isKnown ? message : `invalid grpc-status: ${text ?? status?.code}`,
    isKnown ? code : Code.Internal,
    metadata(),
  );
  error.details = [...(status?.details ?? [])];
  // Connect's servers pass on such an error without its metadata, which belongs to the peer's response.
  error.isWireError = true;
  return error;
}

/** @throws ConnectError when the trailers, or else the headers, tell of a failure, or when neither has a status */
export function assertGrpcOk(
  trailers: IncomingHttpHeaders | undefined,
  headers: IncomingHttpHeaders,
  metadata: () => Headers,
): void {
  const error = grpcError(trailers, metadata);
  if (error !== undefined) throw error;
  if (hasGrpcStatus(trailers) || hasGrpcStatus(headers)) return;
  throw new ConnectError("protocol error: missing status", Code.Internal);
}

export function hasGrpcStatus(fields: IncomingHttpHeaders | undefined): boolean {
  return fields?.[STATUS] !== undefined;
}

/** The details' code goes before that of the header, unless it would make a success of a failure. */
function codeOf(detailed: number | undefined, text: string | undefined): number | undefined {
  if (detailed !== undefined && detailed !== 0) return detailed;
  return text === undefined ? detailed : Number.parseInt(text, 10);
}

/** Text that is encoded badly stays as it is. */
function decodeMessage(text: string): string {
  return isDecodable(text) ? decodeURIComponent(text) : text;
}

/** Whether it is percent-encoded UTF-8. */
export function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

export interface Status {
  readonly code: number;
  readonly message: string;
  readonly details: readonly { readonly type: string; readonly value: Uint8Array }[];
}

/** A google.rpc.Status in base64; undefined when it cannot be read. */
export function decodeStatus(text: string): Status | undefined {
  try {
    return readStatus(base64Decode(text));
  } catch {
    return undefined;
  }
}

function readStatus(bytes: Uint8Array): Status {
  const reader = new BinaryReader(bytes);
  const status = { code: 0, message: "", details: [] as { type: string; value: Uint8Array }[] };
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) status.code = reader.int32();
    else if (field === 2) status.message = reader.string();
    else if (field === 3) status.details.push(readAny(reader.bytes()));
    else reader.skip(type, field);
  }
  return status;
}

function readAny(bytes: Uint8Array): { type: string; value: Uint8Array } {
  const reader = new BinaryReader(bytes);
  const any = { type: "", value: new Uint8Array(0) as Uint8Array };
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) any.type = reader.string().replace(/^.*\//, "");
    else if (field === 2) any.value = reader.bytes();
    else reader.skip(type, field);
  }
  return any;
}

function textOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(", ") : value;
}
