import { create, type JsonValue, type JsonWriteOptions, toBinary, toJson } from "@bufbuild/protobuf";
import { BinaryWriter, base64Encode, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";
import { isTransportHeader } from "#shared/rpc";
import { fieldBytes } from "../http/exchange.ts";

/** Header fields that belong to the protocols: metadata of an error cannot set them. */
const protocolFields: ReadonlySet<string> = new Set([
  "content-type",
  "content-encoding",
  "accept-encoding",
  "user-agent",
  "date",
  "connect-content-encoding",
  "connect-accept-encoding",
  "connect-timeout-ms",
  "connect-protocol-version",
  "grpc-encoding",
  "grpc-timeout",
  "grpc-status",
  "grpc-message",
  "grpc-status-details-bin",
]);

type Detail = ConnectError["details"][number];

interface PackedDetail {
  readonly type: string;
  readonly value: Uint8Array;
}

/** `not_found` for `Code.NotFound`, as Connect's JSON and the log write it. */
export function codeName(code: Code): string {
  const name = Code[code];
  return name === undefined ? String(code) : name.replace(/(?!^)([A-Z])/g, "_$1").toLowerCase();
}

/** HTTP status of a failed unary call of Connect (https://connectrpc.com/docs/protocol#error-codes). */
export function httpStatusOf(code: Code): number {
  return httpStatuses.get(code) ?? 500;
}

const httpStatuses: ReadonlyMap<Code, number> = new Map([
  [Code.Canceled, 499],
  [Code.InvalidArgument, 400],
  [Code.DeadlineExceeded, 504],
  [Code.NotFound, 404],
  [Code.AlreadyExists, 409],
  [Code.PermissionDenied, 403],
  [Code.ResourceExhausted, 429],
  [Code.FailedPrecondition, 400],
  [Code.Aborted, 409],
  [Code.OutOfRange, 400],
  [Code.Unimplemented, 501],
  [Code.Unavailable, 503],
  [Code.Unauthenticated, 401],
]);

/** The failure that a call ends with: an error that no layer has made a ConnectError of says nothing to the caller. */
export function asConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return error;
  return new ConnectError("internal error", Code.Internal, undefined, undefined, error);
}

/** Appends the error's metadata, unless it came from a peer: its headers are that call's. */
export function addMetadata(target: Headers, error: ConnectError): void {
  if ("isWireError" in error && error.isWireError === true) return;
  error.metadata.forEach((value, name) => {
    if (!protocolFields.has(name) && !isTransportHeader(name)) target.append(name, value);
  });
}

/**
 * Sets the fields by which gRPC and gRPC-Web tell a failure: `grpc-status`, `grpc-message`, `grpc-status-details-bin`, and the
 * error's metadata.
 *
 * @param maxBytes Maximum size of all fields together. Details that do not fit are left out, then metadata, then the end of
 * the message; the message says so.
 * @returns whether something was left out
 */
export function setGrpcStatus(trailer: Headers, error: ConnectError, maxBytes: number): boolean {
  const own = [...trailer];
  addMetadata(trailer, error);
  let message = error.rawMessage;
  let left = maxBytes - bytesOf(trailer) - fieldBytes("grpc-status", "10");
  let isTrimmed = false;
  if (left < MIN_MESSAGE_BYTES) {
    // Metadata that leaves no room for the failure itself.
    for (const name of [...trailer.keys()]) trailer.delete(name);
    left = maxBytes - fieldBytes("grpc-status", "10");
    for (const [name, value] of own) {
      const bytes = fieldBytes(name, value);
      if (left - bytes < MIN_MESSAGE_BYTES) continue;
      left -= bytes;
      trailer.append(name, value);
    }
    isTrimmed = true;
  }
  const room = left - fieldBytes("grpc-message", encodeURIComponent(OMITTED));
  let encoded = encodeURIComponent(message.toWellFormed());
  if (encoded.length > room) {
    message = `${message.slice(0, Math.max(0, Math.floor(room / MAX_ENCODED_BYTES)))}…`.toWellFormed();
    encoded = encodeURIComponent(message);
    isTrimmed = true;
  }
  const packed = error.details.map(pack);
  const kept = fitting(packed, (details) => {
    const bytes = base64Length(statusBytes(error.code, message, details).length);
    return bytes <= room - encoded.length - fieldBytes("grpc-status-details-bin", "");
  });
  isTrimmed ||= kept.length < packed.length;
  if (isTrimmed) {
    message += OMITTED;
    encoded = encodeURIComponent(message);
  }
  trailer.set("grpc-status", String(error.code));
  trailer.set("grpc-message", encoded);
  if (kept.length > 0) {
    trailer.set("grpc-status-details-bin", base64Encode(statusBytes(error.code, message, kept), "std_raw"));
  }
  return isTrimmed;
}

const OMITTED = " (some details are left out: they do not fit into the response's headers)";
/** Room that is kept for `grpc-message` and `grpc-status-details-bin`. */
const MIN_MESSAGE_BYTES = 512;
/** Of one character of a message in percent-encoding. */
const MAX_ENCODED_BYTES = 12;

/** The error as Connect's JSON has it. */
export function errorToJson(error: ConnectError, options: Partial<JsonWriteOptions>): JsonValue {
  const { code, rawMessage, details } = error;
  return {
    code: codeName(code),
    ...(rawMessage === "" ? {} : { message: rawMessage }),
    ...(details.length === 0 ? {} : { details: details.map((detail) => detailToJson(detail, options)) }),
  };
}

function detailToJson(detail: Detail, options: Partial<JsonWriteOptions>): JsonValue {
  const { type, value } = pack(detail);
  const encoded = { type, value: base64Encode(value, "std_raw") };
  if (!("desc" in detail)) return detail.debug === undefined ? encoded : { ...encoded, debug: detail.debug };
  try {
    return { ...encoded, debug: toJson(detail.desc, create(detail.desc, detail.value), options) };
  } catch {
    // It has an Any whose type is not in the registry. `debug` is for readers only.
    return encoded;
  }
}

function pack(detail: Detail): PackedDetail {
  if (!("desc" in detail)) return detail;
  return { type: detail.desc.typeName, value: toBinary(detail.desc, create(detail.desc, detail.value)) };
}

/** The details that fit, in their order. */
function fitting(
  details: readonly PackedDetail[],
  fits: (details: readonly PackedDetail[]) => boolean,
): PackedDetail[] {
  if (details.length === 0 || fits(details)) return [...details];
  const kept: PackedDetail[] = [];
  for (const detail of details) {
    if (fits([...kept, detail])) kept.push(detail);
  }
  return kept;
}

/** google.rpc.Status. */
function statusBytes(code: Code, message: string, details: readonly PackedDetail[]): Uint8Array {
  const writer = new BinaryWriter().tag(1, WireType.Varint).int32(code);
  if (message !== "") writer.tag(2, WireType.LengthDelimited).string(message);
  for (const { type, value } of details) {
    writer.tag(3, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(`type.googleapis.com/${type}`);
    if (value.length > 0) writer.tag(2, WireType.LengthDelimited).bytes(value);
    writer.join();
  }
  return writer.finish();
}

function base64Length(bytes: number): number {
  return Math.ceil((bytes * 4) / 3);
}

function bytesOf(headers: Headers): number {
  let bytes = 0;
  headers.forEach((value, name) => {
    bytes += fieldBytes(name, value);
  });
  return bytes;
}
