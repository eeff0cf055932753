import type { Logger } from "#shared/logging";
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
  /** Of the tables that the marks were read from: elsewhere they mean nothing. */
  readonly incarnation: string;
  /** Moves the marks up. Cheap, but not for every claim: about once a second. */
  refresh(query: Query): Promise<void>;
  /** Forgets the marks. After an outage: the server that comes back may not have the last transactions of the one before. */
  reset(): void;
}

/**
 * Where a scan of shard `s` begins, as a relation `m (first, due_from)`. The mark of the table itself counts only below the
 * sequence, which logical replication and a restart of the sequence leave behind it. The marks in memory count only on the
 * server and the tables that they were read from: after a failover, a session may be of another server without notice.
 *
 * @param parameters of the marks in memory: firstIds, dueFromMs, incarnation
 */
export function scanStart(tables: OutboxTableNames, parameters: readonly [string, string, string]): string {
  const [firstIds, dueFromMs, incarnation] = parameters;
  const mark = `(${firstIds}::int8[])[s.shard + 1]`;
  return `cross join lateral (
    select case when s.first_id > i.last_id + 1 then 0 when i.known and ${mark} <= i.last_id + 1 then greatest(s.first_id, ${mark})
        else s.first_id end as first,
      to_timestamp(case when i.known then ${dueFromMs}::float8 / 1000 else 0 end) as due_from
    from (select (${lastId(tables)}) as last_id, ${incarnationOf(tables)} = ${incarnation}::text as known) i offset 0
  ) m`;
}

function lastId({ sequence }: OutboxTableNames): string {
  return `select case when is_called then last_value else last_value - 1 end from ${sequence}`;
}

/** Changes with the server that answers, with a restart of the sequence, and when a table is truncated. */
export function incarnationOf({ outbox, sequence }: OutboxTableNames): string {
  return `concat_ws(' ', extract(epoch from pg_postmaster_start_time()),
    pg_relation_filenode('${outbox}'::regclass), pg_relation_filenode('${sequence}'::regclass))`;
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

interface LookAhead extends Horizon {
  /** The highest mark in the table. */
  readonly markedId: bigint;
  readonly incarnation: string;
}

interface MoveUpRow {
  readonly shard: number;
  readonly first: bigint;
  readonly left_id: bigint | null;
  readonly due_ms: number | null;
  readonly incarnation: string;
}

/** @param logger gets an error when the sequence is behind a mark */
export function createMarks(tables: OutboxTableNames, logger: Pick<Logger, "error">): Marks {
  const { outbox, deferred, shards } = tables;
  const firstIds = Array.from({ length: SHARDS }, () => 0n);
  let dueFromMs = 0;
  /** Every event up to this id is visible, or never will be. */
  let settledId = 0n;
  let settledMs = 0;
  let lastClockMs = 0;
  let horizon: Horizon | undefined;
  let incarnation = "";
  /** Counts resets: what was read before one is of no use after it. */
  let generation = 0;
  let isRefreshing = false;

  /** @returns undefined when the two statements met different servers */
  async function lookAhead(query: Query): Promise<LookAhead | undefined> {
    const [now] = await query<{ id: bigint; clock_ms: number; marked_id: bigint; incarnation: string }>(`
      select (${lastId(tables)}) as id, (extract(epoch from clock_timestamp()) * 1000)::float8 as clock_ms,
        (select max(first_id) from ${shards}) as marked_id, ${incarnationOf(tables)} as incarnation`);
    // After the sequence was read. A statement that inserts locks its table before it draws an id, until its transaction
    // ends: what has drawn a lower id holds the lock now, or has ended.
    const [locks] = await query<{ writers: string[]; incarnation: string }>(`
      select coalesce(array_agg(distinct virtualtransaction), '{}') as writers, ${incarnationOf(tables)} as incarnation
      from pg_locks
      where locktype = 'relation' and mode = 'RowExclusiveLock' and pid is distinct from pg_backend_pid()
        and database = (select oid from pg_database where datname = current_database())
        and relation in ('${outbox}'::regclass, '${deferred}'::regclass)`);
    if (now === undefined || locks === undefined || now.incarnation !== locks.incarnation) return undefined;
    const { id, clock_ms, marked_id } = now;
    return { id, clockMs: clock_ms, markedId: marked_id, incarnation: now.incarnation, writers: locks.writers };
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
    const began = generation;
    const rows = await query<MoveUpRow>(
      `select s.shard, m.first, o.id as left_id, (extract(epoch from d.due) * 1000)::float8 as due_ms,
        ${incarnationOf(tables)} as incarnation
      from ${shards} s ${scanStart(tables, ["$1", "$2", "$3"])}
      left join lateral (
        select o.id from ${outbox} o where o.shard = s.shard and o.id >= m.first order by o.shard, o.id limit 1
      ) o on true
      left join lateral (
        select d.due from ${deferred} d where d.shard = s.shard and d.due >= m.due_from
        order by d.shard, d.due limit 1
      ) d on true`,
      [firstIds.map(String), dueFromMs, incarnation],
    );
    if (generation !== began || rows.some((row) => row.incarnation !== incarnation)) return;
    let due = settledMs - CLOCK_MARGIN_MS;
    for (const { shard, first, left_id, due_ms } of rows) {
      const settled = left_id === null || left_id > settledId ? settledId + 1n : left_id;
      for (const id of [settled, first]) if (id > (firstIds[shard] ?? 0n)) firstIds[shard] = id;
      // A millisecond less: the column has microseconds.
      if (due_ms !== null) due = Math.min(due, due_ms - 1);
    }
    dueFromMs = Math.max(dueFromMs, due);
  }

  /** Sets the marks in the table back, too. Waits for the shards that are held. */
  async function startOver(query: Query): Promise<void> {
    reset();
    await query(`update ${shards} set first_id = 0 where first_id > 0`);
  }

  function reset(): void {
    generation++;
    incarnation = "";
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
    get incarnation() {
      return incarnation;
    },
    async refresh(query) {
      // Two at a time would mix what each has read.
      if (isRefreshing) return;
      isRefreshing = true;
      try {
        await refresh(query);
      } finally {
        isRefreshing = false;
      }
    },
    reset,
  };

  async function refresh(query: Query): Promise<void> {
    const began = generation;
    const now = await lookAhead(query);
    if (now === undefined) return reset();
    if (generation !== began) return;
    const highest = [settledId + 1n, ...firstIds].reduce((a, b) => (a > b ? a : b), now.markedId);
    if (highest > now.id + 1n) {
      const fields = { sequence: String(now.id), mark: String(highest) };
      logger.error(fields, "the sequence of the outbox went back: the outbox is searched from its start");
      return startOver(query);
    }
    if (incarnation !== "" && incarnation !== now.incarnation) return startOver(query);
    incarnation = now.incarnation;
    const wentBack = now.clockMs < lastClockMs;
    lastClockMs = now.clockMs;
    if (wentBack) {
      horizon = undefined;
      await followClock(query);
      if (generation !== began) return;
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
  }
}
