import { type QueryExecutorProvider, sql } from "kysely";
import { schemaOf, tableOf } from "#shared/database";
import type { GuardedMessage } from "../bus.ts";

// The table of the inbox's first version, keyed by queue and event id. As long as it is there, replicas of that version may
// run beside this one: each version has to see what the other has handled. `inbox_v1_known` names the rows of `inbox` that
// this version has stored: for the others, `inbox` alone decides. `inboxRetireV1` drops both tables.

/** Ids that name one event whatever its source is. Other ids may be of another source's event in the old table. */
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const PRUNE_AT_ONCE = 10_000;

export interface RecordedV1 {
  /** Ids that this transaction has stored. */
  readonly stored: ReadonlySet<string>;
  /** Ids whose events a replica of the first version has handled. */
  readonly handled: ReadonlySet<string>;
}

/** Whether the table is there. */
export async function hasV1(db: QueryExecutorProvider): Promise<boolean> {
  const { rows } = await sql<{ found: boolean }>`
    select to_regclass(${`"${schemaOf(db)}".inbox`}::text) is not null as found`.execute(db);
  return rows[0]?.found === true;
}

/** Stores ids where replicas of the first version look; waits for one that handles a copy at this moment. */
export async function recordV1(
  tx: QueryExecutorProvider,
  queue: string,
  messages: readonly GuardedMessage[],
): Promise<RecordedV1> {
  // In the order of the first version, or the two could wait for each other.
  const ids = [...new Set(messages.map(({ id }) => id))].filter((id) => UUID.test(id)).sort();
  if (ids.length === 0) return { stored: new Set(), handled: new Set() };
  const [inbox, known] = [tableOf(tx, "inbox"), tableOf(tx, "inbox_v1_known")];
  const { rows } = await sql<{ event_id: string }>`
    with stored as (
      insert into ${inbox} (queue, event_id)
      select ${queue}, id from unnest(${ids}::text[]) with ordinality as ids (id, place) order by place
      on conflict do nothing
      returning queue, event_id
    ), noted as (
      insert into ${known} (queue, event_id) select queue, event_id from stored on conflict do nothing
    )
    select event_id from stored`.execute(tx);
  const stored = new Set(rows.map((row) => row.event_id));
  const others = ids.filter((id) => !stored.has(id));
  if (others.length === 0) return { stored, handled: new Set() };
  // What this version has stored is in inbox_events too, which knows the source.
  const { rows: found } = await sql<{ event_id: string }>`
    select event_id from ${inbox}
    where queue = ${queue} and event_id = any(${others}::text[])
      and event_id not in (
        select event_id from ${known} where queue = ${queue} and event_id = any(${others}::text[])
      )`.execute(tx);
  return { stored, handled: new Set(found.map((row) => row.event_id)) };
}

/** Takes back ids that the same transaction has stored. */
export async function forgetV1(tx: QueryExecutorProvider, queue: string, ids: readonly string[]): Promise<void> {
  for (const table of ["inbox", "inbox_v1_known"]) {
    await sql`
      delete from ${tableOf(tx, table)} where queue = ${queue} and event_id = any(${ids}::text[])`.execute(tx);
  }
}

/** Drops the tables, unless they are gone or a transaction uses them. */
export async function dropV1(db: QueryExecutorProvider): Promise<void> {
  const inbox = tableOf(db, "inbox");
  // Never waits: all transactions that come after a waiting lock would wait too.
  await sql`
    do $$ begin
      lock table ${inbox} in access exclusive mode nowait;
      drop table if exists ${inbox}, ${tableOf(db, "inbox_v1_known")};
    exception when lock_not_available or undefined_table then null;
    end $$`.execute(db);
}

/** Deletes some of the ids that are older than the window; whether there may be more. */
export async function pruneV1(db: QueryExecutorProvider, windowMs: number): Promise<boolean> {
  const inbox = tableOf(db, "inbox");
  const { rows } = await sql<{ deleted: number }>`
    with expired as (
      delete from ${inbox} where ctid = any(array(
        select ctid from ${inbox} where handled_at < now() - ${windowMs}::float8 * interval '1 millisecond'
        limit ${sql.lit(PRUNE_AT_ONCE)}
      ))
      returning queue, event_id
    ), forgotten as (
      delete from ${tableOf(db, "inbox_v1_known")} as known using expired
      where known.queue = expired.queue and known.event_id = expired.event_id
    )
    select count(*)::int4 as deleted from expired`.execute(db);
  return rows[0]?.deleted === PRUNE_AT_ONCE;
}
