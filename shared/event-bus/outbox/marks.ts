import { SHARDS } from "./shard.ts";
import type { OutboxTableNames, Query } from "./tables.ts";

/**
 * Below what the outbox's scans need not look. PostgreSQL keeps a deleted row, and its place in each index, as long as any
 * snapshot may need it. A scan from the start of a shard would read all of them, so it begins behind them.
 */
export interface Marks {
  /** For each shard, an id below which no event is left or will be. */
  readonly firstIds: readonly bigint[];
  /** A time, in ms since 1970, before which no event is due. */
  readonly dueFromMs: number;
  /** Moves the marks up. Cheap, but not for every claim: about once a second. */
  refresh(query: Query): Promise<void>;
  /** Forgets the marks. After an outage: the server that comes back may not have the last transactions of the one before. */
  reset(): void;
}

/** A clock that goes back by less than this is not noticed when it happens between two refreshes. */
const CLOCK_MARGIN_MS = 60_000;
/** Failed events never wait longer for their next attempt. */
const LONGEST_WAIT = "61 seconds";

/** A moment, and the transactions that may still add events of before it. */
interface Horizon {
  readonly id: bigint;
  readonly clockMs: number;
  readonly writers: readonly string[];
}

export function createMarks(tables: OutboxTableNames): Marks {
  const { outbox, deferred, shards, sequence } = tables;
  const firstIds = Array.from({ length: SHARDS }, () => 0n);
  let dueFromMs = 0;
  /** Every event up to this id is visible, or never will be. */
  let settledId = 0n;
  let settledMs = 0;
  let lastClockMs = 0;
  let horizon: Horizon | undefined;

  async function lookAhead(query: Query): Promise<Horizon> {
    const [now] = await query<{ id: bigint; clock_ms: number }>(`
      select case when is_called then last_value else last_value - 1 end as id,
        (extract(epoch from clock_timestamp()) * 1000)::float8 as clock_ms
      from ${sequence}`);
    // After the sequence was read. A statement that inserts locks its table before it draws an id, until its transaction
    // ends: what has drawn a lower id holds the lock now, or has ended.
    const [locks] = await query<{ writers: string[] }>(`
      select coalesce(array_agg(distinct virtualtransaction), '{}') as writers from pg_locks
      where locktype = 'relation' and mode = 'RowExclusiveLock' and pid is distinct from pg_backend_pid()
        and database = (select oid from pg_database where datname = current_database())
        and relation in ('${outbox}'::regclass, '${deferred}'::regclass)`);
    return { id: now?.id ?? 0n, clockMs: now?.clock_ms ?? 0, writers: locks?.writers ?? [] };
  }

  /** After the clock went back: what is due by the new time, and attempts that would wait for the old one. */
  async function followClock(query: Query): Promise<void> {
    dueFromMs = 0;
    settledMs = 0;
    await query(`
      update ${deferred} set due = clock_timestamp()
      where state = 'failed' and due > clock_timestamp() + interval '${LONGEST_WAIT}'`);
  }

  async function moveUp(query: Query): Promise<void> {
    const first = "greatest(s.first_id, ($1::int8[])[s.shard + 1])";
    const rows = await query<{ shard: number; first_id: bigint; left_id: bigint | null; due_ms: number | null }>(
      `select s.shard, s.first_id, o.id as left_id, (extract(epoch from d.due) * 1000)::float8 as due_ms
      from ${shards} s
      left join lateral (
        select o.id from ${outbox} o where o.shard = s.shard and o.id >= ${first} order by o.shard, o.id limit 1
      ) o on true
      left join lateral (
        select d.due from ${deferred} d where d.shard = s.shard and d.due >= to_timestamp($2::float8 / 1000)
        order by d.shard, d.due limit 1
      ) d on true`,
      [firstIds.map(String), dueFromMs],
    );
    let due = settledMs - CLOCK_MARGIN_MS;
    for (const { shard, first_id, left_id, due_ms } of rows) {
      const settled = left_id === null || left_id > settledId ? settledId + 1n : left_id;
      for (const id of [settled, first_id]) if (id > (firstIds[shard] ?? 0n)) firstIds[shard] = id;
      // A millisecond less: the column has microseconds.
      if (due_ms !== null) due = Math.min(due, due_ms - 1);
    }
    dueFromMs = Math.max(dueFromMs, due);
  }

  function reset(): void {
    firstIds.fill(0n);
    settledId = 0n;
    dueFromMs = settledMs = lastClockMs = 0;
    horizon = undefined;
  }

  return {
    firstIds,
    get dueFromMs() {
      return dueFromMs;
    },
    async refresh(query) {
      const now = await lookAhead(query);
      if (now.id < settledId) reset();
      const wentBack = now.clockMs < lastClockMs;
      lastClockMs = now.clockMs;
      if (wentBack) {
        horizon = undefined;
        await followClock(query);
      }
      // A prepared transaction shows under another name than before.
      const isOver = (writer: string) => !now.writers.includes(writer) && !now.writers.some((w) => w.startsWith("-1/"));
      const ended = now.writers.length === 0 ? now : horizon?.writers.every(isOver) ? horizon : undefined;
      if (ended !== undefined) {
        settledId = ended.id;
        settledMs = ended.clockMs;
      }
      if (ended !== undefined || horizon === undefined) horizon = now;
      await moveUp(query);
    },
    reset,
  };
}
