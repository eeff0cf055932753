import type { JsonValue } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { type Code, ConnectError } from "@connectrpc/connect";
import { codeOfName } from "#shared/errors";

/** JSON of the Connect protocol's errors, https://connectrpc.com/docs/protocol#error-end-stream */
interface ErrorJson {
  readonly code?: unknown;
  readonly message?: unknown;
  readonly details?: unknown;
}

/**
 * The error that a JSON value describes. Whatever cannot be read of it is dropped, but never replaces the code.
 *
 * @param fallback the code and the message when the JSON has none that can be read
 */
export function connectErrorOf(
  json: unknown,
  metadata: Headers,
  fallback: { code: Code; message: string },
): ConnectError {
  const isObject = typeof json === "object" && json !== null && !Array.isArray(json);
  const { code, message, details }: ErrorJson = isObject ? json : {};
  const text = typeof message === "string" ? message : isObject && message === undefined ? "" : fallback.message;
  const known = typeof code === "string" ? codeOfName(code) : undefined;
  const error = new ConnectError(text, known ?? fallback.code, metadata);
  if (Array.isArray(details)) error.details = details.flatMap(readDetail);
  error.isWireError = isObject;
  return error;
}

/** @returns undefined when it is no JSON */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}

function readDetail(detail: unknown): ConnectError["details"] {
  const { type, value, debug } = (detail ?? {}) as { type?: unknown; value?: unknown; debug?: JsonValue };
  if (typeof type !== "string" || typeof value !== "string") return [];
  try {
    const bytes = base64Decode(value);
    return [debug === undefined ? { type, value: bytes } : { type, value: bytes, debug }];
  } catch {
    return [];
  }
}
