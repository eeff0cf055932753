import type { AsyncMessage } from "rabbitmq-client";
import { ATTRIBUTES, deathsOf, fromAmqp, HEADERS, originOf, readdressed } from "#shared/event-bus";

/** A message in a dead-letter queue. What it does not say of itself is empty, or null. */
export interface DeadLetter {
  /** The event's id. */
  readonly id: string | null;
  /** The event's full name; empty for the bare JSON of older publishers. */
  readonly type: string;
  /** Such as `attempts_exhausted`; `delivery_limit` when no consumer lived to answer. */
  readonly reason: string;
  /** What made it a dead letter; null when that is not recorded, as for a message that was published there by hand. */
  readonly by: "consumer" | "broker" | null;
  /** Which attempt was the last. */
  readonly attempts: number;
  /** How often the broker has made it a dead letter for this reason; null when the consumer did. */
  readonly deaths: number | null;
  readonly error: string;
  /** ISO 8601, like `time`. */
  readonly deadSince: string | null;
  /** Where it was published. */
  readonly exchange: string;
  readonly routingKey: string;
  /** When it happened. */
  readonly time: string | null;
  readonly source: string;
  readonly key: string;
}

/**
 * A consumer strips `x-death` from what it makes a dead letter, and RabbitMQ keeps the headers that there are: where both
 * have left their word, RabbitMQ's is the later one.
 */
export function deadLetterOf(message: AsyncMessage): DeadLetter {
  const headers = headersOf(message);
  const { envelope, attempt } = fromAmqp(message);
  const death = deathsOf(message)[0];
  const origin = originOf(message);
  const ours = headers[HEADERS.deadReason] !== undefined;
  const deadAt = death === undefined ? Date.parse(text(headers[HEADERS.deadAt])) : Number(death.time) * 1_000;
  return {
    id: idOf(message),
    type: envelope.type,
    reason: death === undefined ? text(headers[HEADERS.deadReason]) : text(death.reason),
    by: death === undefined ? (ours ? "consumer" : null) : "broker",
    attempts: attempt,
    deaths: death === undefined ? null : Number(death.count ?? 1),
    error: death === undefined ? text(headers[HEADERS.deadError]) : "",
    deadSince: isoOf(deadAt),
    exchange: origin.exchange,
    routingKey: origin.routingKey,
    time: isoOf(message.timestamp === undefined && !(ATTRIBUTES.time in headers) ? Number.NaN : envelope.timeMs),
    source: envelope.source,
    key: envelope.key,
  };
}

/** What `--id` names. Other than a consumer, it invents none. */
export function idOf(message: AsyncMessage): string | null {
  return message.messageId || text(headersOf(message)[ATTRIBUTES.id]) || null;
}

/** The same event as if it had never failed, for the queue itself: other queues of its exchange have had it. */
export function redriven(message: AsyncMessage, queue: string): ReturnType<typeof readdressed> {
  const { exchange, routingKey } = originOf(message);
  const headers = Object.fromEntries(Object.entries(headersOf(message)).filter(([name]) => !OF_A_FAILURE.has(name)));
  return readdressed({ ...message, headers }, queue, {
    [HEADERS.originExchange]: exchange,
    [HEADERS.originRoutingKey]: routingKey,
  });
}

const OF_A_FAILURE: ReadonlySet<string> = new Set([
  HEADERS.attempt,
  HEADERS.postponed,
  HEADERS.unknownRounds,
  HEADERS.deadReason,
  HEADERS.deadError,
  HEADERS.deadAt,
]);

function headersOf({ headers }: AsyncMessage): Readonly<Record<string, unknown>> {
  return headers ?? {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function isoOf(ms: number): string | null {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}
