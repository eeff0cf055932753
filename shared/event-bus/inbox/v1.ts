import { type QueryExecutorProvider, sql } from "kysely";
import { schemaOf, tableOf } from "#shared/database";
import type { GuardedMessage } from "../bus.ts";

// The table of the inbox's first version, keyed by queue and event id. As long as it is there, replicas of that version may
// run beside this one: each version has to see what the other has handled. `inboxRetireV1` drops the table.

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
  const inbox = tableOf(tx, "inbox");
  const { rows } = await sql<{ event_id: string }>`
    insert into ${inbox} (queue, event_id, in_events)
    select ${queue}, id, true from unnest(${ids}::text[]) with ordinality as ids (id, place) order by place
    on conflict do nothing
    returning event_id`.execute(tx);
  const stored = new Set(rows.map((row) => row.event_id));
  const others = ids.filter((id) => !stored.has(id));
  if (others.length === 0) return { stored, handled: new Set() };
  // What this version has stored is in inbox_events too, which knows the source.
  const { rows: found } = await sql<{ event_id: string }>`
    select event_id from ${inbox}
    where queue = ${queue} and event_id = any(${others}::text[]) and in_events is null`.execute(tx);
  return { stored, handled: new Set(found.map((row) => row.event_id)) };
}

/** Takes back ids that the same transaction has stored. */
export async function forgetV1(tx: QueryExecutorProvider, queue: string, ids: readonly string[]): Promise<void> {
  await sql`
    delete from ${tableOf(tx, "inbox")} where queue = ${queue} and event_id = any(${ids}::text[])`.execute(tx);
}

/** Deletes some of the ids that are older than the window; whether there may be more. */
export async function pruneV1(db: QueryExecutorProvider, windowMs: number): Promise<boolean> {
  const inbox = tableOf(db, "inbox");
  const { numAffectedRows } = await sql`
    delete from ${inbox} where ctid = any(array(
      select ctid from ${inbox} where handled_at < now() - ${windowMs}::float8 * interval '1 millisecond'
      limit ${sql.lit(PRUNE_AT_ONCE)}
    ))`.execute(db);
  return numAffectedRows === BigInt(PRUNE_AT_ONCE);
}
