import type { EventEnvelope } from "../envelope.ts";

/**
 * Where an event of the outbox stands: `pending` in the table `outbox`; the others in `outbox_deferred`.
 * `delayed`: not due yet. `failed`: waits for its next attempt, and its key halts. `behind`: waits for a failed event of
 * its key. `parked`: waits for an operator.
 */
export type OutboxEventState = "pending" | "delayed" | "failed" | "behind" | "parked";

/** An event that a relay has claimed. */
export interface OutboxRow {
  readonly id: bigint;
  readonly shard: number;
  readonly state: OutboxEventState;
  /** Attempts that failed. */
  readonly attempts: number;
  readonly lastError: string | null;
  readonly envelope: EventEnvelope;
  /** An event of its key has failed before, and waits. */
  readonly halted: boolean;
  /** How long it has to wait yet, in ms; null when it is due. Only of an event that an earlier version has postponed. */
  readonly waitMs: number | null;
}

/** What came of an event. An event without an outcome stays as it is. */
export type Outcome =
  | { readonly kind: "published"; readonly row: OutboxRow }
  | { readonly kind: "failed"; readonly row: OutboxRow; readonly retryMs: number; readonly error: string }
  | { readonly kind: "parked"; readonly row: OutboxRow; readonly error: string }
  /** An earlier version of the relay has postponed it. */
  | { readonly kind: "postponed"; readonly row: OutboxRow; readonly retryMs: number }
  /** An earlier event of its key has failed. */
  | { readonly kind: "behind"; readonly row: OutboxRow };

/** The columns of an event that both tables have, besides id and attempts. */
export const EVENT_COLUMNS =
  "shard, key, event_id, type, source, time, routing_key, must_be_routed, content_type, body, context";

/**
 * The columns of an `EventRow`. The time as a number: drivers take long to make a Date of its text.
 *
 * @param body what stands for the body; it may be large
 */
export function selectEvent(table: string, body = `${table}.body`): string {
  const columns = "id key event_id type source routing_key must_be_routed content_type context attempts last_error";
  const named = columns.split(" ").map((column) => `${table}.${column}`);
  return `${named.join(", ")}, ${body} as body, (extract(epoch from ${table}.time) * 1000)::float8 as time_ms`;
}

export interface EventRow {
  readonly id: bigint;
  readonly key: string;
  readonly event_id: string;
  readonly type: string;
  readonly source: string;
  readonly time_ms: number;
  readonly routing_key: string;
  readonly must_be_routed: boolean;
  readonly content_type: string;
  readonly body: Uint8Array;
  /** JSON; empty when there is none. */
  readonly context: string;
  readonly attempts: number;
  readonly last_error: string | null;
}

export interface ClaimedRow extends EventRow {
  readonly shard: number;
  readonly state: OutboxEventState;
  readonly halted: boolean | null;
  readonly wait_ms: number | null;
}

export function toOutboxRow(row: ClaimedRow): OutboxRow {
  return {
    id: row.id,
    shard: row.shard,
    state: row.state,
    attempts: row.attempts,
    lastError: row.last_error,
    envelope: toEnvelope(row),
    halted: row.halted === true,
    waitMs: row.wait_ms,
  };
}

const NO_CONTEXT: EventEnvelope["context"] = {};

export function toEnvelope(row: EventRow): EventEnvelope {
  return {
    id: row.event_id,
    type: row.type,
    source: row.source,
    timeMs: Math.round(row.time_ms),
    key: row.key,
    routingKey: row.routing_key,
    mustBeRouted: row.must_be_routed,
    contentType: row.content_type,
    body: row.body,
    context: row.context === "" ? NO_CONTEXT : (JSON.parse(row.context) as Record<string, string>),
  };
}
