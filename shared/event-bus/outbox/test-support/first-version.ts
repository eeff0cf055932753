// The outbox's tables and statements of the first version, word for word as in commit 9a5edc5, and a relay on them.
import { randomUUID } from "node:crypto";
import { type QueryExecutorProvider, sql } from "kysely";
import type { Migration } from "#shared/database";
import type { OutboxOptions } from "../outbox.ts";
import { SHARDS } from "../shard.ts";

type Bus = OutboxOptions["bus"];

export const firstOutboxMigration: Migration = {
  async up(db) {
    await sql`
      create table outbox (
        id bigint generated always as identity primary key,
        shard int2 not null,
        key text not null,
        event_id uuid not null,
        type text not null,
        source text not null,
        time timestamptz(3) not null,
        routing_key text not null,
        must_be_routed bool not null,
        content_type text not null,
        body bytea not null,
        context text not null,
        attempts int4 not null default 0,
        not_before timestamptz,
        last_error text
      )`.execute(db);
    await sql`create index outbox_shard_id_idx on outbox (shard, id)`.execute(db);
    // Few: those that failed, by which later ones of their key are held back.
    await sql`create index outbox_failed_idx on outbox (shard, key, id) where not_before is not null`.execute(db);
    // Rows come and go: without this, those that are gone would stay in the way for long.
    await sql`alter table outbox set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000)`.execute(
      db,
    );
    await sql`
      create table outbox_shards (
        shard int2 primary key,
        lease uuid,
        lease_until timestamptz not null default '-infinity'
      )`.execute(db);
    await sql`insert into outbox_shards (shard) select generate_series(0, ${sql.lit(SHARDS - 1)})`.execute(db);
    // Or the planner takes it for a large table.
    await sql`analyze outbox_shards`.execute(db);
  },
};

/** The part of an outbox that one relay may publish for now. */
interface Claim {
  readonly shard: number;
  /** A later claim of the shard has another lease, and what this relay writes then is refused. */
  readonly lease: string;
  /** In the order in which they are to be published; at least one. */
  readonly rows: readonly OutboxRow[];
}

interface OutboxRow {
  readonly id: bigint;
  readonly attempts: number;
  readonly envelope: Parameters<Bus["send"]>[0];
}

/** What became of a claim's rows. Those in neither list stay as they are. */
interface Results {
  readonly published: readonly bigint[];
  readonly failed: readonly { readonly id: bigint; readonly retryMs: number; readonly error: string }[];
}

/** Who may publish what, in the database's words. Each method is one statement. */
interface Claims {
  /** The shard that has waited longest of those that are free and have something due; undefined when there is none. */
  claim(limit: number, leaseMs: number): Promise<Claim | undefined>;
  /** Whether the claim still holds the shard. */
  renew(claim: Claim, leaseMs: number): Promise<boolean>;
  /** Writes the results and gives the shard back. False when another has claimed it since: nothing is written then. */
  finish(claim: Claim, results: Results): Promise<boolean>;
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

/** The keys of a shard that halt: one of their events has failed of late, and the others wait until it succeeds. */
const halted = sql`
  select array(select f.key from outbox f where f.shard = s.shard and f.not_before > now() and f.key <> '') as keys`;
/** Events without a key do not wait. */
const due = sql`o.shard = s.shard and (o.not_before is null or o.not_before <= now()) and o.key <> all(h.keys)`;
/** What one claim may bring into memory, and one event at the least. */
const MOST_BYTES = 8 * 1024 * 1024;

function createClaims(db: QueryExecutorProvider): Claims {
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

/** Publishes until it is stopped, as the first version does: each key in order, and with a lease of 15 s. */
export function startFirstRelay(db: QueryExecutorProvider, bus: Bus): { stop(): Promise<void> } {
  const claims = createClaims(db);
  let stopped = false;
  const running = run();

  async function run(): Promise<void> {
    while (!stopped) {
      const claim = await claims.claim(10, 15_000);
      if (claim === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
      else await publish(claim);
    }
  }

  async function publish(claim: Claim): Promise<void> {
    const published: bigint[] = [];
    const failed: { id: bigint; retryMs: number; error: string }[] = [];
    const halted = new Set<string>();
    for (const { id, envelope } of claim.rows) {
      if (halted.has(envelope.key)) continue;
      try {
        await bus.send(envelope);
        published.push(id);
      } catch (error) {
        failed.push({ id, retryMs: 50, error: String(error) });
        halted.add(envelope.key);
      }
    }
    await claims.finish(claim, { published, failed });
  }

  return {
    async stop() {
      stopped = true;
      await running;
    },
  };
}
