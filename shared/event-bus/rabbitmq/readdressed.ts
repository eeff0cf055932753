import type { AsyncMessage, Envelope } from "rabbitmq-client";
import { redactLine } from "#shared/logging";
import { unmovable } from "../errors.ts";
import { CONTEXT, HEADERS, isMoved } from "./amqp-message.ts";
import { contentHeaderOf, withContentHeader } from "./client-workarounds.ts";
import { type ContentHeader, FRAME_OVERHEAD, headersTableOf, movedContentHeader } from "./content-header.ts";
import { encodeField, type Field, fieldsOf } from "./field-table.ts";
import { originOf } from "./origin.ts";

/** A message to be published to another queue. */
export interface Readdressed {
  readonly envelope: Envelope;
  readonly body: Buffer;
}

type Headers = Readonly<Record<string, string | number>>;

/**
 * Headers that the broker writes when a message expires or is rejected: on finding its own it would take the message for one
 * that goes in circles, and drop it. And headers that would have the broker copy the message again.
 */
const BROKERS_OWN = /^(?:b?cc|x-(?:death|first-death-.*|last-death-.*|delivery-count|acquired-count))$/i;
const OURS: ReadonlySet<string> = new Set(Object.values(HEADERS));
const MAX_ERROR_BYTES = 500;
const NO_TABLE = Buffer.alloc(0);

/**
 * Addresses a message to another queue. The body, the properties and the headers stay byte for byte as they came; headers
 * that `message.headers` does not have any more are left out, and `headers` are added or replaced. Error texts lose their
 * credentials and what exceeds 500 bytes. When the headers do not fit into a frame, first the error text is cut, then the
 * largest headers of other publishers are left out.
 *
 * @throws DomainError EVENT_UNMOVABLE when only the broker can move the message without loss
 */
export function readdressed(message: AsyncMessage, queue: string, headers: Headers): Readdressed {
  const { messageId, body } = message;
  const { exchange, routingKey } = originOf(message);
  const added: Record<string, string | number> = isMoved(message)
    ? { ...headers }
    : { [HEADERS.originExchange]: exchange, [HEADERS.originRoutingKey]: routingKey, ...headers };
  const error = added[HEADERS.deadError];
  if (error !== undefined) added[HEADERS.deadError] = cut(redactLine(String(error)), MAX_ERROR_BYTES);
  const envelope: Envelope = { exchange: "", routingKey: queue, mandatory: true, durable: true };
  if (messageId !== undefined) envelope.messageId = messageId;
  if (!Buffer.isBuffer(body)) throw unmovable("the client has parsed the body");
  const header = contentHeaderOf(message);
  if (header === undefined) return { envelope: { ...decodedProperties(message, added), ...envelope }, body };
  const { payload } = header;
  const table = headersTable(header, (name) => isCarried(message, name) && !Object.hasOwn(added, name), added);
  return { envelope: withContentHeader(envelope, movedContentHeader(payload, table)), body };
}

function isCarried(message: AsyncMessage, name: string): boolean {
  if (BROKERS_OWN.test(name) || !Object.hasOwn(message.headers ?? {}, name)) return false;
  return isMoved(message) || !OURS.has(name);
}

function headersTable(header: ContentHeader, isCarried: (name: string) => boolean, added: Headers): Buffer {
  const { payload, frameMax } = header;
  const table = headersTableOf(payload);
  const fields = fieldsOf(table);
  if (fields === undefined) throw unmovable("its headers cannot be read");
  const carried = fields.filter(({ name }) => isCarried(name));
  const limit = frameMax - FRAME_OVERHEAD - movedContentHeader(payload, NO_TABLE).length;
  const own = encoded(added);
  const size = own.length + carried.reduce((sum, field) => sum + sizeOf(field), 0);
  if (size <= limit) return concatenated(table, carried, own);
  return shortened(table, carried, added, limit);
}

function shortened(table: Buffer, carried: readonly Field[], added: Headers, limit: number): Buffer {
  const flagged: Record<string, string | number> = { ...added, [HEADERS.shortened]: 1 };
  let excess = encoded(flagged).length + carried.reduce((sum, field) => sum + sizeOf(field), 0) - limit;
  const error = added[HEADERS.deadError];
  if (excess > 0 && typeof error === "string") {
    const bytes = Buffer.byteLength(error);
    flagged[HEADERS.deadError] = cut(error, Math.max(0, bytes - excess));
    excess -= bytes - Buffer.byteLength(String(flagged[HEADERS.deadError]));
  }
  const leftOut = new Set<Field>();
  for (const field of carried.toSorted((a, b) => sizeOf(b) - sizeOf(a))) {
    if (excess <= 0) break;
    if (isNeeded(field.name)) continue;
    leftOut.add(field);
    excess -= sizeOf(field);
  }
  if (excess > 0) throw unmovable("its attributes do not fit into a frame");
  return concatenated(
    table,
    carried.filter((field) => !leftOut.has(field)),
    encoded(flagged),
  );
}

function isNeeded(name: string): boolean {
  return name.startsWith("cloudEvents:") || CONTEXT.includes(name) || OURS.has(name);
}

function sizeOf({ start, end }: Field): number {
  return end - start;
}

function encoded(headers: Headers): Buffer {
  return Buffer.concat(Object.entries(headers).map(([name, value]) => encodeField(name, value)));
}

function concatenated(table: Buffer, carried: readonly Field[], own: Buffer): Buffer {
  return Buffer.concat([...carried.map(({ start, end }) => table.subarray(start, end)), own]);
}

/** Without the message's bytes: what the client would encode otherwise than it came is not moved. */
function decodedProperties(message: AsyncMessage, added: Headers): Envelope {
  const carried = Object.entries(message.headers ?? {}).filter(([name]) => isCarried(message, name));
  for (const [name, value] of carried) {
    if (typeof value !== "string" && typeof value !== "boolean" && !Number.isSafeInteger(value))
      throw unmovable(`the client has decoded the header ${name}`);
  }
  const { type, contentType, contentEncoding, timestamp, correlationId, replyTo, appId, priority } = message;
  const given = { type, contentType, contentEncoding, timestamp, correlationId, replyTo, appId, priority };
  const properties = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return { ...properties, headers: { ...Object.fromEntries(carried), ...added } } as Envelope;
}

/** Cuts a text to so many bytes of UTF-8, between two characters. */
function cut(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text);
  return bytes.length <= maxBytes ? text : new TextDecoder().decode(bytes.subarray(0, maxBytes), { stream: true });
}
