import { randomUUID } from "node:crypto";
import { type QueryExecutorProvider, sql } from "kysely";
import type { EventEnvelope } from "../envelope.ts";

/** The part of an outbox that one relay may publish for now. */
export interface Claim {
  readonly shard: number;
  /** Whoever claims the shard later has another: what this relay writes then is refused. */
  readonly lease: string;
  /** In the order in which they are to be published; at least one. */
  readonly rows: readonly OutboxRow[];
}

export interface OutboxRow {
  readonly id: bigint;
  readonly attempts: number;
  readonly envelope: EventEnvelope;
}

/** What became of a claim's rows. Those in neither list stay as they are. */
export interface Results {
  readonly published: readonly bigint[];
  readonly failed: readonly { readonly id: bigint; readonly retryMs: number; readonly error: string }[];
}

/** Who may publish what, in the database's words. Each method is one statement. */
export interface Claims {
  /** The shard that has waited longest of those that are free and have something due; undefined when there is none. */
  claim(limit: number, leaseMs: number): Promise<Claim | undefined>;
  /** Whether nobody else has claimed the shard since. */
  renew(claim: Claim, leaseMs: number): Promise<boolean>;
  /** Writes the results and gives the shard back. False when another has claimed it since: nothing is written then. */
  finish(claim: Claim, results: Results): Promise<boolean>;
  /** How many events wait, counted up to 10 000. */
  pending(): Promise<number>;
}

interface Row {
  shard: number;
  id: bigint;
  key: string;
  event_id: string;
  type: string;
  source: string;
  time: Date;
  routing_key: string;
  must_be_routed: boolean;
  content_type: string;
  body: Uint8Array;
  context: string;
  attempts: number;
}

const COUNT_LIMIT = 10_000;

/** The keys of a shard that halt: one of their events has failed of late, and the others wait until it succeeds. */
const halted = sql`
  select array(select f.key from outbox f where f.shard = s.shard and f.not_before > now() and f.key <> '') as keys`;
/** Events without a key wait for nobody. */
const due = sql`o.shard = s.shard and (o.not_before is null or o.not_before <= now()) and o.key <> all(h.keys)`;
/** What one claim may bring into memory, and one event at the least. */
const MOST_BYTES = 8 * 1024 * 1024;

export function createClaims(db: QueryExecutorProvider): Claims {
  return {
    async claim(limit, leaseMs) {
      const lease = randomUUID();
      // `lateral` with a limit: each shard's rows by the index, and no more of them than are wanted. As an `exists` the first
      // would be a hash of the whole table.
      const { rows } = await sql<Row>`
        with free as (
          select s.shard from outbox_shards s cross join lateral (${halted}) h
          cross join lateral (select from outbox o where ${due} limit 1) o
          where s.lease_until <= now()
          order by s.lease_until
          limit 1
          for update of s skip locked
        ), claimed as (
          update outbox_shards s
          set lease = ${lease}::uuid, lease_until = now() + ${leaseMs} * interval '1 millisecond'
          from free where s.shard = free.shard
          returning s.shard
        )
        select r.* from claimed s cross join lateral (${halted}) h cross join lateral (
          select o.*, sum(octet_length(o.body)) over (order by o.id) - octet_length(o.body) as bytes_before
          from (select o.* from outbox o where ${due} order by o.id limit ${limit}) o
        ) r where r.bytes_before < ${MOST_BYTES} order by r.id`.execute(db);
      const [first] = rows;
      return first === undefined ? undefined : { shard: first.shard, lease, rows: rows.map(toOutboxRow) };
    },

    async renew({ shard, lease }, leaseMs) {
      const { numAffectedRows } = await sql`
        update outbox_shards set lease_until = now() + ${leaseMs} * interval '1 millisecond'
        where shard = ${shard} and lease = ${lease}::uuid`.execute(db);
      return numAffectedRows === 1n;
    },

    async finish({ shard, lease }, { published, failed }) {
      const { rows } = await sql<{ held: boolean }>`
        with held as (
          update outbox_shards set lease = null, lease_until = now()
          where shard = ${shard} and lease = ${lease}::uuid
          returning shard
        ), gone as (
          delete from outbox o using held
          where o.shard = held.shard and o.id = any(${published.map(String)}::bigint[])
        ), postponed as (
          update outbox o
          set attempts = o.attempts + 1, last_error = f.error,
              not_before = now() + f.retry_ms * interval '1 millisecond'
          from held, unnest(
            ${failed.map(({ id }) => String(id))}::bigint[],
            ${failed.map(({ retryMs }) => Math.round(retryMs))}::int4[],
            ${failed.map(({ error }) => error)}::text[]
          ) as f (id, retry_ms, error)
          where o.shard = held.shard and o.id = f.id
        )
        select exists (select from held) as held`.execute(db);
      return rows[0]?.held === true;
    },

    async pending() {
      const { rows } = await sql<{ count: bigint }>`
        select count(*) as count from (select from outbox limit ${COUNT_LIMIT}) o`.execute(db);
      return Number(rows[0]?.count ?? 0n);
    },
  };
}

function toOutboxRow(row: Row): OutboxRow {
  return {
    id: row.id,
    attempts: row.attempts,
    envelope: {
      id: row.event_id,
      type: row.type,
      source: row.source,
      timeMs: row.time.getTime(),
      key: row.key,
      routingKey: row.routing_key,
      mustBeRouted: row.must_be_routed,
      contentType: row.content_type,
      body: row.body,
      context: row.context === "" ? {} : (JSON.parse(row.context) as Record<string, string>),
    },
  };
}
