import { decodeTable } from "./field-table.ts";

/** A message's content header as it came, byte for byte (AMQP 0-9-1, 4.2.6.1). */
export interface ContentHeader {
  /** The payload of the header frame: class, weight, body size, property flags, properties. */
  readonly payload: Buffer;
  /** Maximum size of a frame on the connection that it came by. */
  readonly frameMax: number;
  readonly contentType: string | undefined;
}

type Kind = "short string" | "octet" | "timestamp" | "table";
interface Property {
  readonly name: string;
  readonly kind: Kind;
  readonly flag: number;
  /** Whether a message that is moved to another queue keeps it. */
  readonly isMoved: boolean;
}

/**
 * In the order of their flags. A moved message is no longer to expire. Its user is not the one who moves it, so the broker
 * would refuse it. It is always persistent.
 */
export const PROPERTIES: readonly Property[] = [
  { name: "contentType", kind: "short string", flag: 0x8000, isMoved: true },
  { name: "contentEncoding", kind: "short string", flag: 0x4000, isMoved: true },
  { name: "headers", kind: "table", flag: 0x2000, isMoved: false },
  { name: "deliveryMode", kind: "octet", flag: 0x1000, isMoved: false },
  { name: "priority", kind: "octet", flag: 0x0800, isMoved: true },
  { name: "correlationId", kind: "short string", flag: 0x0400, isMoved: true },
  { name: "replyTo", kind: "short string", flag: 0x0200, isMoved: true },
  { name: "expiration", kind: "short string", flag: 0x0100, isMoved: false },
  { name: "messageId", kind: "short string", flag: 0x0080, isMoved: true },
  { name: "timestamp", kind: "timestamp", flag: 0x0040, isMoved: true },
  { name: "type", kind: "short string", flag: 0x0020, isMoved: true },
  { name: "userId", kind: "short string", flag: 0x0010, isMoved: false },
  { name: "appId", kind: "short string", flag: 0x0008, isMoved: true },
  { name: "clusterId", kind: "short string", flag: 0x0004, isMoved: false },
];

/** Class `basic`, and the weight. */
export const CONTENT_CLASS = 0x003c_0000;
/** Behind the class, the weight and the body size. */
export const FLAGS_AT = 12;
export const PROPERTIES_AT = 14;
/** The type, channel and size of a frame, and the octet at its end. */
export const FRAME_OVERHEAD = 8;
export const PERSISTENT = 2;
const EMPTY = Buffer.alloc(0);

/** Decodes the properties that a message has. */
export function decodeProperties(payload: Buffer): Record<string, unknown> & { readonly contentType?: string } {
  const flags = payload.readUInt16BE(FLAGS_AT);
  const values: Record<string, unknown> = {};
  let offset = PROPERTIES_AT;
  for (const { name, kind, flag } of PROPERTIES) {
    if ((flags & flag) === 0) continue;
    const end = endOf(payload, offset, kind);
    values[name] = decodeProperty(payload, offset, end, kind);
    offset = end;
  }
  return values;
}

/** The bytes of the headers' table, without its length; empty when there is none. */
export function headersTableOf(payload: Buffer): Buffer {
  let table: Buffer = EMPTY;
  eachProperty(payload, ({ name }, start, end) => {
    if (name === "headers") table = payload.subarray(start + 4, end);
  });
  return table;
}

/** Builds the content header of a moved message: the same properties, as bytes, with another table of headers. */
export function movedContentHeader(payload: Buffer, table: Buffer): Buffer {
  const parts: Buffer[] = [];
  let flags = 0;
  const add = (flag: number, ...bytes: Buffer[]) => {
    flags |= flag;
    parts.push(...bytes);
  };
  const length = Buffer.alloc(4);
  length.writeUInt32BE(table.length);
  const given = new Map<number, Buffer>();
  eachProperty(payload, ({ flag }, start, end) => given.set(flag, payload.subarray(start, end)));
  for (const { name, flag, isMoved } of PROPERTIES) {
    const bytes = given.get(flag);
    if (name === "headers") add(flag, length, table);
    else if (name === "deliveryMode") add(flag, Buffer.of(PERSISTENT));
    else if (isMoved && bytes !== undefined) add(flag, bytes);
  }
  const head = Buffer.from(payload.subarray(0, PROPERTIES_AT));
  head.writeUInt16BE(flags, FLAGS_AT);
  return Buffer.concat([head, ...parts]);
}

function eachProperty(payload: Buffer, visit: (property: Property, start: number, end: number) => void): void {
  const flags = payload.readUInt16BE(FLAGS_AT);
  let offset = PROPERTIES_AT;
  for (const property of PROPERTIES) {
    if ((flags & property.flag) === 0) continue;
    const end = endOf(payload, offset, property.kind);
    visit(property, offset, end);
    offset = end;
  }
}

/** @throws RangeError beyond the payload's end */
function endOf(payload: Buffer, offset: number, kind: Kind): number {
  if (kind === "short string") return offset + 1 + payload.readUInt8(offset);
  if (kind === "table") return offset + 4 + payload.readUInt32BE(offset);
  return offset + (kind === "octet" ? 1 : 8);
}

function decodeProperty(payload: Buffer, offset: number, end: number, kind: Kind): unknown {
  if (kind === "short string") return payload.toString("utf8", offset + 1, end);
  if (kind === "table") return decodeTable(payload.subarray(offset + 4, end));
  return kind === "octet" ? payload.readUInt8(offset) : Number(payload.readBigUInt64BE(offset));
}
