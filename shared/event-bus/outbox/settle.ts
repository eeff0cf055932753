import { EVENT_COLUMNS, type OutboxEventState, type OutboxRow, type Outcome } from "./rows.ts";
import type { OutboxTableNames, Query } from "./tables.ts";

/** What becomes of an event that stays in the outbox. */
interface Change {
  readonly id: bigint;
  readonly state: OutboxEventState;
  readonly attempts: number;
  /** Time until it is due, in ms; only where the state has one. */
  readonly dueInMs: number;
  /** Empty: the error stays as it was. */
  readonly error: string;
}

/** A relation of the parameters. */
const changes = `unnest($1::int8[], $2::text[], $3::int4[], $4::float8[], $5::text[])
  as change (id, state, attempts, due_in_ms, error)`;

function parametersOf(all: readonly Change[]): unknown[] {
  return [
    all.map(({ id }) => String(id)),
    all.map(({ state }) => state),
    all.map(({ attempts }) => attempts),
    all.map(({ dueInMs }) => dueInMs),
    all.map(({ error }) => error),
  ];
}

const HAS_DUE = "state in ('delayed', 'failed')";
const DUE_AT = "clock_timestamp() + change.due_in_ms * interval '1 millisecond'";

/**
 * Writes what came of events. To be called while their shards are held.
 *
 * @param besideOld an earlier version of the relay may work on the same tables
 */
export type Settle = (query: Query, outcomes: readonly Outcome[], besideOld: boolean) => Promise<void>;

export function createSettle(tables: OutboxTableNames): Settle {
  const { outbox, deferred } = tables;

  /** As the earlier version does: it does not know of outbox_deferred, and would publish what comes after a failed event. */
  const postpone = `
    update ${outbox} o set attempts = change.attempts, last_error = change.error, not_before = ${DUE_AT}
    from ${changes} where o.id = change.id`;
  const defer = `
    with gone as (
      delete from ${outbox} o using ${changes} where o.id = change.id
      returning o.*, change.state, change.attempts as tried, case when change.${HAS_DUE} then ${DUE_AT} end as due,
        coalesce(nullif(change.error, ''), o.last_error) as error
    )
    insert into ${deferred} (id, ${EVENT_COLUMNS}, attempts, state, due, last_error)
    select id, ${EVENT_COLUMNS}, tried, state, due, error from gone`;
  const update = `
    update ${deferred} d set state = change.state, attempts = change.attempts,
      due = case when change.${HAS_DUE} then ${DUE_AT} end, last_error = coalesce(nullif(change.error, ''), d.last_error)
    from ${changes} where d.id = change.id`;

  const demote = `
    update ${deferred} f set state = 'behind', due = null from unnest($1::text[], $2::int8[]) as late (key, id)
    where f.state = 'failed' and f.key <> '' and f.key = late.key and f.attempts = 0 and f.id > late.id
    returning f.key`;

  /** A promoted event stands before all that wait behind it, also before those that a slow transaction added. */
  async function giveWay(query: Query, late: readonly OutboxRow[]): Promise<void> {
    const first = new Map<string, bigint>();
    for (const { id, envelope } of late) if (id < (first.get(envelope.key) ?? id + 1n)) first.set(envelope.key, id);
    const demoted = await query<{ key: string }>(demote, [[...first.keys()], [...first.values()].map(String)]);
    if (demoted.length > 0) await promote(tables, query, new Map(demoted.map(({ key }) => [key, 0n])));
  }

  return async (query, outcomes, besideOld) => {
    const published = outcomes.filter(({ kind }) => kind === "published").map(({ row }) => row);
    const pending = published.filter(({ state }) => state === "pending").map(({ id }) => String(id));
    const others = published.filter(({ state }) => state !== "pending").map(({ id }) => String(id));
    if (pending.length > 0) await query(`delete from ${outbox} where id = any($1::int8[])`, [pending]);
    if (others.length > 0) await query(`delete from ${deferred} where id = any($1::int8[])`, [others]);

    const postponed: Change[] = [];
    const moved: Change[] = [];
    const updated: Change[] = [];
    for (const outcome of outcomes) {
      const change = changeOf(outcome, besideOld);
      if (change === undefined) continue;
      if (outcome.row.state !== "pending") updated.push(change);
      else if (change.state === "pending") postponed.push(change);
      else moved.push(change);
    }
    if (postponed.length > 0) await query(postpone, parametersOf(postponed));
    if (moved.length > 0) await query(defer, parametersOf(moved));
    if (updated.length > 0) await query(update, parametersOf(updated));

    const freed = outcomes.filter(({ kind, row }) => kind !== "behind" && row.state !== "pending" && row.envelope.key);
    if (freed.length > 0) await promote(tables, query, lastOfKeys(freed.map(({ row }) => row)));
    const late = outcomes.filter(({ kind, row }) => kind === "behind" && row.state === "pending");
    if (late.length > 0)
      await giveWay(
        query,
        late.map(({ row }) => row),
      );
  };
}

function changeOf(outcome: Outcome, besideOld: boolean): Change | undefined {
  const { row } = outcome;
  const attempts = row.attempts + 1;
  switch (outcome.kind) {
    case "published":
      return undefined;
    case "failed": {
      const state = besideOld && (row.state === "pending" || row.state === "delayed") ? row.state : "failed";
      return { id: row.id, state, attempts, dueInMs: outcome.retryMs, error: outcome.error };
    }
    case "parked":
      return { id: row.id, state: "parked", attempts, dueInMs: 0, error: outcome.error };
    case "postponed":
      return { id: row.id, state: "failed", attempts: row.attempts, dueInMs: outcome.retryMs, error: "" };
    case "behind":
      // Only what a failed event in outbox_deferred holds back may wait there: its success lets the others go on.
      if (besideOld && !row.halted) return undefined;
      return { id: row.id, state: "behind", attempts: row.attempts, dueInMs: 0, error: "" };
  }
}

/**
 * The id above which the events behind are looked for. What was before a promoted event in its key is gone, but its places
 * in the index stay as long as a snapshot may need them. Before one that failed itself, others may wait.
 */
function lastOfKeys(rows: readonly OutboxRow[]): Map<string, bigint> {
  const last = new Map<string, bigint>();
  for (const { id, envelope } of rows) if (id > (last.get(envelope.key) ?? 0n)) last.set(envelope.key, id);
  for (const { state, attempts, envelope } of rows) {
    if (state !== "behind" && !(state === "failed" && attempts === 0)) last.set(envelope.key, 0n);
  }
  return last;
}

/**
 * Of each key that no longer has a failed event, the first event that waited behind it is due in its place.
 *
 * @param keys with the id above which the events of the key wait
 */
export async function promote(
  { deferred }: OutboxTableNames,
  query: Query,
  keys: ReadonlyMap<string, bigint>,
): Promise<void> {
  await query(
    `update ${deferred} d set state = 'failed', due = clock_timestamp()
    from unnest($1::text[], $2::int8[]) as k (key, after)
    where d.id = coalesce((
        select b.id from ${deferred} b where b.state = 'behind' and b.key = k.key and b.id > k.after
        order by b.key, b.id limit 1
      ), (
        select b.id from ${deferred} b where k.after > 0 and b.state = 'behind' and b.key = k.key
        order by b.key, b.id limit 1
      ))
      and not exists (
        select from ${deferred} f where f.state = 'failed' and f.key <> '' and f.key = k.key
      )`,
    [[...keys.keys()], [...keys.values()].map(String)],
  );
}
