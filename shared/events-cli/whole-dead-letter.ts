import { type DescFile, type JsonValue, toJson } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import type { AsyncMessage } from "rabbitmq-client";
import { createDecoder, type Decode, eventTypeOf, fromAmqp, isEvent } from "#shared/event-bus";
import { type DeadLetter, deadLetterOf } from "./dead-letter.ts";

/** A dead letter with all that it carries. */
export interface WholeDeadLetter extends DeadLetter {
  /** AMQP's, those that it has. */
  readonly properties: Readonly<Record<string, string | number | boolean>>;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly message:
    | { readonly kind: "event"; readonly type: string; readonly json: JsonValue }
    /** `why` it could not be decoded. */
    | { readonly kind: "bytes"; readonly why: string; readonly base64: string };
}

/** Decodes the events of these files. */
export function decoderOf(files: readonly DescFile[]): Decode {
  const messages = files.flatMap((file) => [...nestedTypes(file)]).filter((type) => type.kind === "message");
  const types = messages.filter((message) => isEvent(message)).map((message) => eventTypeOf(message));
  // Broken rules may be why it is a dead letter.
  return createDecoder(types, { checkRules: false });
}

export function wholeOf(message: AsyncMessage, decode: Decode): WholeDeadLetter {
  const { envelope } = fromAmqp(message);
  return {
    ...deadLetterOf(message),
    properties: Object.fromEntries(PROPERTIES.flatMap((name) => entryOf(name, message[name]))),
    headers: Object.fromEntries(Object.entries(message.headers ?? {}).map(([name, value]) => [name, printable(value)])),
    message: contentOf(envelope, decode),
  };
}

const PROPERTIES = [
  "messageId",
  "type",
  "contentType",
  "contentEncoding",
  "timestamp",
  "durable",
  "priority",
  "correlationId",
  "replyTo",
  "expiration",
  "appId",
  "userId",
] as const;

function entryOf<T>(name: string, value: T | undefined): [string, T][] {
  return value === undefined ? [] : [[name, value]];
}

/** Bytes as base64, at any depth. */
function printable(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map(printable);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, printable(item)]));
}

/** The message of an event, decoded if that is possible. */
export function contentOf(envelope: Parameters<Decode>[0], decode: Decode): WholeDeadLetter["message"] {
  const base64 = Buffer.from(envelope.body).toString("base64");
  const decoded = decode(envelope);
  if (decoded.kind === "undecodable") return { kind: "bytes", why: decoded.error.message, base64 };
  if (decoded.kind === "unknown") return { kind: "bytes", why: `there is no event ${decoded.type}`, base64 };
  const { type, message } = decoded;
  try {
    return { kind: "event", type: type.name, json: toJson(type.schema, message) };
  } catch (error) {
    return { kind: "bytes", why: error instanceof Error ? error.message : String(error), base64 };
  }
}
