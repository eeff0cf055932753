import type { Envelope } from "rabbitmq-client";
import { tooLarge } from "../errors.ts";
import { CONTENT_CLASS, FLAGS_AT, FRAME_OVERHEAD, PERSISTENT, PROPERTIES, PROPERTIES_AT } from "./content-header.ts";
import { encodeField } from "./field-table.ts";

/** Frames of a message to be published (AMQP 0-9-1, 2.3.5): its method, its content header and its body. */
export interface MessageFrames {
  /** The first frames as one piece; of a small message, all of them. */
  readonly head: Buffer;
  /** Frames of the body that are not in `head`, each made when it is asked for; undefined when there are none. */
  readonly rest: Iterator<Buffer> | undefined;
}

const METHOD = 1;
const HEADER = 2;
const BODY = 3;
const FRAME_END = 206;
/** The type, channel and size of a frame. */
const FRAME_HEAD_BYTES = 7;
const BASIC_PUBLISH = 0x003c_0028;
const MANDATORY = 1;
const TRANSIENT = 1;
const LONG_STRING = 0x53;
const MAX_SHORT_BYTES = 255;
/** Method and properties without the headers, which have their own bound. */
const MAX_FIXED_BYTES = 2 * FRAME_OVERHEAD + PROPERTIES_AT + (PROPERTIES.length + 3) * (1 + MAX_SHORT_BYTES);
/** Longest UTF-8 encoding of a UTF-16 code unit. */
const MAX_BYTES_A_UNIT = 3;
/** A larger body is not copied behind the other frames. */
const MAX_BODY_IN_HEAD = 16 * 1024;
const SLAB_BYTES = 64 * 1024;
/** Of longer texts, and others than ASCII, the engine's own encoder takes less time. */
const SHORT_TEXT = 64;

/** Messages are encoded one behind the other: an allocation for each costs as much as its encoding. */
let slab = Buffer.alloc(0);
let at = 0;

/**
 * Encodes a message. It is persistent when it is `durable`, and its time is now unless it has one. Headers are texts, booleans and whole numbers.
 *
 * @param frameMax maximum size of a frame, in bytes
 * @param contentHeader payload of the content header, in place of one that is made of the envelope
 * @throws DomainError EVENT_TOO_LARGE when the content header does not fit into a frame; TypeError for other headers
 */
export function encodeMessage(
  channelId: number,
  envelope: Envelope,
  body: Buffer,
  frameMax: number,
  contentHeader?: Buffer,
): MessageFrames {
  const isWhole = body.length <= Math.min(MAX_BODY_IN_HEAD, frameMax - FRAME_OVERHEAD);
  reserve(MAX_FIXED_BYTES + (contentHeader?.length ?? maxHeadersBytes(envelope)) + body.length * Number(isWhole));
  const start = at;
  putMethod(channelId, envelope);
  const headerStart = at;
  putContentHeader(channelId, envelope, body.length, contentHeader);
  const headerBytes = at - headerStart;
  if (headerBytes > frameMax) {
    at = start;
    throw tooLarge(`headers of ${headerBytes} bytes do not fit into a frame of ${frameMax} bytes`);
  }
  if (isWhole && body.length > 0) putBody(channelId, body);
  return { head: slab.subarray(start, at), rest: isWhole ? undefined : bodyFrames(channelId, body, frameMax) };
}

function reserve(bytes: number): void {
  if (slab.length - at >= bytes) return;
  slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, bytes));
  at = 0;
}

function maxHeadersBytes({ headers }: Envelope): number {
  let bytes = 0;
  for (const name in headers) {
    const value: unknown = headers[name];
    bytes += 16 + MAX_BYTES_A_UNIT * (name.length + (typeof value === "string" ? value.length : 0));
  }
  return bytes;
}

function putMethod(channelId: number, { exchange = "", routingKey = "", mandatory }: Envelope): void {
  const start = beginFrame(METHOD, channelId);
  at = slab.writeUInt32BE(BASIC_PUBLISH, at);
  at = slab.writeUInt16BE(0, at);
  putShort(exchange);
  putShort(routingKey);
  slab[at++] = mandatory ? MANDATORY : 0;
  endFrame(start);
}

function putContentHeader(channelId: number, envelope: Envelope, bodyBytes: number, payload: Buffer | undefined): void {
  const start = beginFrame(HEADER, channelId);
  const payloadAt = at;
  if (payload === undefined) putProperties(envelope);
  else at += payload.copy(slab, at);
  slab.writeUInt32BE(0, payloadAt + 4);
  slab.writeUInt32BE(bodyBytes, payloadAt + 8);
  endFrame(start);
}

function putProperties(envelope: Envelope): void {
  const values = envelope as Readonly<Record<string, unknown>>;
  const classAt = at;
  let flags = 0;
  at = slab.writeUInt32BE(CONTENT_CLASS, at) + PROPERTIES_AT - 4;
  for (const { name, kind, flag } of PROPERTIES) {
    const value = values[name] ?? defaultOf(name, envelope);
    if (value === undefined) continue;
    flags |= flag;
    if (kind === "short string") putShort(String(value));
    else if (kind === "octet") slab[at++] = Number(value);
    else if (kind === "timestamp") at = slab.writeBigUInt64BE(BigInt(Number(value)), at);
    else putTable(value as Readonly<Record<string, unknown>>);
  }
  slab.writeUInt16BE(flags, classAt + FLAGS_AT);
}

function defaultOf(property: string, { durable }: Envelope): number | undefined {
  if (property === "deliveryMode") return durable ? PERSISTENT : TRANSIENT;
  return property === "timestamp" ? Math.floor(Date.now() / 1_000) : undefined;
}

function putTable(headers: Readonly<Record<string, unknown>>): void {
  const lengthAt = at;
  at += 4;
  for (const name in headers) {
    const value = headers[name];
    if (typeof value === "string") {
      putShort(name);
      slab[at++] = LONG_STRING;
      putLong(value);
    } else if (typeof value === "boolean" || Number.isInteger(value)) {
      at += encodeField(name, value as boolean | number).copy(slab, at);
    } else throw new TypeError(`the header ${name} is neither a text nor a boolean nor a whole number`);
  }
  slab.writeUInt32BE(at - lengthAt - 4, lengthAt);
}

function putBody(channelId: number, body: Buffer): void {
  const start = beginFrame(BODY, channelId);
  at += body.copy(slab, at);
  endFrame(start);
}

function* bodyFrames(channelId: number, body: Buffer, frameMax: number): Generator<Buffer> {
  const step = frameMax - FRAME_OVERHEAD;
  for (let offset = 0; offset < body.length; offset += step) {
    const part = body.subarray(offset, offset + step);
    reserve(part.length + FRAME_OVERHEAD);
    const start = at;
    putBody(channelId, part);
    yield slab.subarray(start, at);
  }
}

function beginFrame(type: number, channelId: number): number {
  const start = at;
  slab[at] = type;
  slab.writeUInt16BE(channelId, at + 1);
  at += FRAME_HEAD_BYTES;
  return start;
}

function endFrame(start: number): void {
  slab.writeUInt32BE(at - start - FRAME_HEAD_BYTES, start + 3);
  slab[at++] = FRAME_END;
}

/** At most 255 bytes; what exceeds them is cut. */
function putShort(text: string): void {
  const start = ++at;
  putText(text);
  at = Math.min(at, start + MAX_SHORT_BYTES);
  slab[start - 1] = at - start;
}

function putLong(text: string): void {
  const start = at + 4;
  at = start;
  putText(text);
  slab.writeUInt32BE(at - start, start - 4);
}

function putText(text: string): void {
  const { length } = text;
  let index = 0;
  if (length <= SHORT_TEXT) {
    for (; index < length; index++) {
      const unit = text.charCodeAt(index);
      if (unit > 0x7f) break;
      slab[at + index] = unit;
    }
  }
  at += index === length ? length : slab.write(text, at);
}
