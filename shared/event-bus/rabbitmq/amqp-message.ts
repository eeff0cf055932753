import type { AsyncMessage, Envelope } from "rabbitmq-client";
import type { Received } from "../consuming/handling.ts";
import type { EventEnvelope } from "../envelope.ts";

/** CloudEvents' attributes as its AMQP binding names them. */
export const ATTRIBUTES = {
  specversion: "cloudEvents:specversion",
  id: "cloudEvents:id",
  type: "cloudEvents:type",
  source: "cloudEvents:source",
  time: "cloudEvents:time",
  partitionkey: "cloudEvents:partitionkey",
} as const;

/** Headers that a message gets when it is moved to another queue. */
export const HEADERS = {
  /** 2 for the second. */
  attempt: "x-attempt",
  /** Number of times that the message was put off without costing an attempt. */
  postponed: "x-postponed",
  /** Number of times that the message went round because a replica did not know its type. */
  unknownRounds: "x-unknown-rounds",
  /** Where it was published, since a retry and a dead letter lie in queues of their own. */
  originExchange: "x-origin-exchange",
  originRoutingKey: "x-origin-routing-key",
  deadReason: "x-dead-letter-reason",
  deadError: "x-dead-letter-error",
  deadAt: "x-dead-letter-time",
  /** Present when headers had to be left out or cut, because they did not fit into a frame. */
  shortened: "x-headers-shortened",
} as const;

/** Headers that belong to the context map of an event. */
export const CONTEXT: readonly string[] = ["traceparent", "tracestate", "baggage", "x-request-id", "subject"];

/** A message's properties, as rabbitmq-client takes them. */
export function toAmqp(exchange: string, envelope: EventEnvelope): Envelope {
  const headers: Record<string, string> = {
    ...envelope.context,
    [ATTRIBUTES.specversion]: "1.0",
    [ATTRIBUTES.id]: envelope.id,
    [ATTRIBUTES.type]: envelope.type,
    [ATTRIBUTES.source]: envelope.source,
    [ATTRIBUTES.time]: new Date(envelope.timeMs).toISOString(),
  };
  if (envelope.key !== "") headers[ATTRIBUTES.partitionkey] = envelope.key;
  return {
    exchange,
    routingKey: envelope.routingKey,
    mandatory: envelope.mustBeRouted,
    durable: true,
    messageId: envelope.id,
    type: envelope.type,
    contentType: envelope.contentType,
    timestamp: Math.floor(envelope.timeMs / 1_000),
    headers,
  };
}

/** rabbitmq-client turns anything but a Buffer into JSON. */
export function toBody({ body }: Pick<EventEnvelope, "body">): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

/** Reads a message of any publisher. Attributes that it does not have are empty. */
export function fromAmqp(message: AsyncMessage): Received {
  const headers = (message.headers ?? {}) as Readonly<Record<string, unknown>>;
  const text = (name: string) => (typeof headers[name] === "string" ? headers[name] : "");
  const context: Record<string, string> = {};
  for (const name of CONTEXT) if (text(name) !== "") context[name] = text(name);
  // Other publishers may use these names for something else.
  const moved = isMoved(message) ? headers : {};
  return {
    envelope: {
      // Without an id copies cannot be recognised: each delivery counts as another event.
      id: message.messageId || text(ATTRIBUTES.id) || crypto.randomUUID(),
      type: text(ATTRIBUTES.type) || (message.type ?? ""),
      source: text(ATTRIBUTES.source) || (message.appId ?? ""),
      timeMs: timeOf(text(ATTRIBUTES.time), message.timestamp),
      key: text(ATTRIBUTES.partitionkey),
      routingKey: text(HEADERS.originRoutingKey) || message.routingKey,
      mustBeRouted: true,
      contentType: message.contentType ?? "",
      body: bytesOf(message),
      context,
    },
    attempt: countOf(moved[HEADERS.attempt], 1),
    postponed: countOf(moved[HEADERS.postponed], 0),
    unknownRounds: countOf(moved[HEADERS.unknownRounds], 0),
  };
}

function countOf(value: unknown, fallback: number): number {
  const count = Number(value ?? fallback);
  return Number.isSafeInteger(count) && count >= fallback ? count : fallback;
}

/** Whether a bus has published the message before, to a retry queue, a dead-letter queue or back to its work queue. */
export function isMoved({ headers = {} }: Pick<AsyncMessage, "headers">): boolean {
  return HEADERS.originExchange in headers || HEADERS.originRoutingKey in headers;
}

function timeOf(iso: string, seconds: number | undefined): number {
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? (seconds === undefined ? Date.now() : seconds * 1_000) : ms;
}

function bytesOf({ body, contentType }: AsyncMessage): Uint8Array {
  if (body instanceof Uint8Array) return body;
  // The client has parsed it (see client-workarounds.ts). JSON may be a string too: then it has lost its quotes.
  const isText = typeof body === "string" && contentType !== "application/json";
  return Buffer.from(isText ? body : JSON.stringify(body));
}
