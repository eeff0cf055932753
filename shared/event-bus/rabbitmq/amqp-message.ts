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

/** What a message that was not handled at once carries besides. */
export const HEADERS = {
  /** 2 for the second. */
  attempt: "x-attempt",
  /** Number of times that the message was put off without costing an attempt. */
  postponed: "x-postponed",
  /** Where it was published, since a retry and a dead letter lie in queues of their own. */
  originExchange: "x-origin-exchange",
  originRoutingKey: "x-origin-routing-key",
  deadReason: "x-dead-letter-reason",
  deadError: "x-dead-letter-error",
  deadAt: "x-dead-letter-time",
} as const;

/**
 * What the broker writes when a message expires or is rejected. Sent back to it, it would take a message for one that goes
 * round in circles, and drop it. And what its sender has had copied (`CC`) is not to be copied again.
 */
const BROKERS_OWN = /^(?:b?cc|x-(?:death|first-death-.*|last-death-.*|delivery-count|acquired-count))$/i;

const CONTEXT = ["traceparent", "tracestate", "x-request-id"] as const;

/** A message's properties, as rabbitmq-client takes them. */
export function toAmqp(exchange: string, envelope: EventEnvelope): Envelope {
  const headers: Record<string, string> = {
    [ATTRIBUTES.specversion]: "1.0",
    [ATTRIBUTES.id]: envelope.id,
    [ATTRIBUTES.type]: envelope.type,
    [ATTRIBUTES.source]: envelope.source,
    [ATTRIBUTES.time]: new Date(envelope.timeMs).toISOString(),
    ...envelope.context,
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

/** A message as it came, whoever has published it: what is missing is empty, or begins here. */
export function fromAmqp(message: AsyncMessage): Received {
  const headers = (message.headers ?? {}) as Readonly<Record<string, unknown>>;
  const text = (name: string) => (typeof headers[name] === "string" ? headers[name] : "");
  const context: Record<string, string> = {};
  for (const name of CONTEXT) if (text(name) !== "") context[name] = text(name);
  const attempt = Number(headers[HEADERS.attempt] ?? 1);
  const postponed = Number(headers[HEADERS.postponed] ?? 0);
  return {
    envelope: {
      // Without an id no copy can be known for one: each delivery counts as another event.
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
    attempt: Number.isSafeInteger(attempt) && attempt > 0 ? attempt : 1,
    postponed: Number.isSafeInteger(postponed) && postponed > 0 ? postponed : 0,
  };
}

/**
 * The same message for another queue: all that it carries, with these headers besides. The body is as it came; JSON that
 * rabbitmq-client has parsed is written anew.
 */
export function readdressed(
  message: AsyncMessage,
  queue: string,
  headers: Readonly<Record<string, string | number>>,
): { readonly envelope: Envelope; readonly body: Buffer } {
  const { exchange, routingKey } = message;
  const carried = Object.entries(message.headers ?? {}).filter(([name]) => !BROKERS_OWN.test(name));
  return {
    envelope: {
      ...properties(message),
      exchange: "",
      routingKey: queue,
      mandatory: true,
      durable: true,
      headers: {
        [HEADERS.originExchange]: exchange,
        [HEADERS.originRoutingKey]: routingKey,
        ...Object.fromEntries(carried),
        ...headers,
      },
    },
    body: Buffer.from(bytesOf(message)),
  };
}

function properties(message: AsyncMessage): Envelope {
  const { messageId, type, contentType, contentEncoding, timestamp, correlationId, replyTo, appId, priority } = message;
  const given = { messageId, type, contentType, contentEncoding, timestamp, correlationId, replyTo, appId, priority };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Envelope;
}

function timeOf(iso: string, seconds: number | undefined): number {
  const ms = Date.parse(iso);
  return Number.isNaN(ms) ? (seconds === undefined ? Date.now() : seconds * 1_000) : ms;
}

function bytesOf({ body, contentType }: AsyncMessage): Uint8Array {
  if (body instanceof Uint8Array) return body;
  // JSON may be a string too: then it has lost its quotes.
  const isText = typeof body === "string" && contentType !== "application/json";
  return Buffer.from(isText ? body : JSON.stringify(body));
}
