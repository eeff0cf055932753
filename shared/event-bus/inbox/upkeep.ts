import { type Kysely, type QueryExecutorProvider, sql } from "kysely";
import { isOutage, schemaOf, tableOf } from "#shared/database";
import { createLogThrottle, type Logger } from "#shared/logging";
import { sleep } from "#shared/timing";
import { partitionName, readLayout } from "./partitions.ts";
import { dropV1, hasV1, pruneV1 } from "./v1.ts";

/** Opens and drops partitions, in the background. */
export interface Upkeep {
  start(): void;
  stop(): Promise<void>;
}

export interface UpkeepOptions<Tables> {
  readonly db: Kysely<Tables>;
  readonly logger: Logger;
  readonly windowMs: number;
}

const PARTITIONS_PER_WINDOW = 4;
/** Checks for each partition's time. */
const CHECKS_PER_PARTITION = 10;
const MAX_INTERVAL_MS = 60_000;
const LOG_INTERVAL_MS = 10 * 60_000;
const LOCK_TIMEOUT = "100ms";

interface State {
  readonly first: number;
  readonly last: number;
  readonly overlapping: boolean;
  /** Whether the newest partition has been open for its share of the window. */
  readonly full: boolean;
  /** Whether all that only the oldest partition has is older than the window. */
  readonly expired: boolean;
}

export function createUpkeep<Tables>(options: UpkeepOptions<Tables>): Upkeep {
  const { db, logger, windowMs } = options;
  const intervalMs = Math.min(windowMs / PARTITIONS_PER_WINDOW / CHECKS_PER_PARTITION, MAX_INTERVAL_MS);
  const throttle = createLogThrottle(logger, { intervalMs: LOG_INTERVAL_MS });
  const stopping = new AbortController();
  let running: Promise<void> | undefined;

  async function run(): Promise<void> {
    do {
      try {
        await tendPartitions(db, windowMs);
        if (!(await hasV1(db))) continue;
        if ((await readLayout(db)).retired) await dropV1(db);
        else while (!stopping.signal.aborted && (await pruneV1(db, windowMs)));
      } catch (err) {
        // Nothing depends on its being in time: keys go to the newest partition that there is.
        if (!isOutage(err))
          throttle.warn("upkeep", { err }, "partitions of the inbox cannot be made or dropped, retrying");
      }
      // Replicas take turns.
    } while (await sleep(intervalMs * (0.8 + 0.4 * Math.random()), stopping.signal, { keepsAlive: false }));
  }

  return {
    start() {
      running ??= run();
    },
    async stop() {
      stopping.abort();
      await running;
      throttle.flush();
    },
  };
}

/** Takes one step of each kind that is due. Several replicas may do so at the same time. */
export async function tendPartitions<Tables>(db: Kysely<Tables>, windowMs: number): Promise<void> {
  await dropExpired(db);
  await db.transaction().execute(async (tx) => {
    await sql`set local lock_timeout = ${sql.lit(LOCK_TIMEOUT)}`.execute(tx);
    const partitions = tableOf(tx, "inbox_partitions");
    const window = sql`${windowMs}::float8 * interval '1 millisecond'`;
    const { rows } = await sql<State>`
      select first, last, overlapping,
        opened_at[cardinality(opened_at)] + ${window} / ${sql.lit(PARTITIONS_PER_WINDOW)} <= now() as full,
        first < last - overlapping::int4 and opened_at[2] + ${window} <= now() as expired
      from ${partitions} for update skip locked`.execute(tx);
    const [state] = rows;
    // Another replica is at it.
    if (state === undefined) return;
    const { last } = state;
    if (state.overlapping) {
      if (!(await isWrittenAlone(tx, last - 1, last))) {
        await sql`update ${partitions} set overlapping = false`.execute(tx);
      }
    } else if (state.full) {
      const [table, parent] = [tableOf(tx, partitionName(last + 1)), tableOf(tx, "inbox_events")];
      await sql`create table ${table} (primary key (key)) inherits (${parent})`.execute(tx);
      await sql`
        update ${partitions} set last = last + 1, overlapping = true, opened_at = opened_at || now()`.execute(tx);
    }
    // Its keys that are in the second oldest partition too do not count: each of them was stored later than that was opened.
    if (state.expired) {
      await sql`update ${partitions} set first = first + 1, opened_at = opened_at[2:]`.execute(tx);
    }
  });
}

/** Whether a transaction is open that has written to the old partition, and does not write to the new one as well. */
async function isWrittenAlone(tx: QueryExecutorProvider, old: number, next: number): Promise<boolean> {
  const oid = (number: number) => sql`${`"${schemaOf(tx)}".${partitionName(number)}`}::text::regclass`;
  const { rows } = await sql<{ alone: boolean }>`
    with writers as materialized (
      select virtualtransaction, relation from pg_locks
      where relation in (${oid(old)}, ${oid(next)}) and mode = 'RowExclusiveLock' and granted
        and database = (select oid from pg_database where datname = current_database())
    )
    select exists (
      select from writers where relation = ${oid(old)}
        and virtualtransaction not in (select virtualtransaction from writers where relation = ${oid(next)})
    ) as alone`.execute(tx);
  return rows[0]?.alone !== false;
}

/** Drops partitions whose keys do not count any more and that no transaction reads; the others stay until the next time. */
async function dropExpired<Tables>(db: Kysely<Tables>): Promise<void> {
  const { rows } = await sql<{ name: string; first: number }>`
    select child.relname::text as name, partitions.first
    from pg_inherits
    join pg_class as child on child.oid = inhrelid
    cross join ${tableOf(db, "inbox_partitions")} as partitions
    where inhparent = to_regclass(${`"${schemaOf(db)}".inbox_events`}::text)`.execute(db);
  for (const { name, first } of rows) {
    const number = Number(/^inbox_events_(\d+)$/.exec(name)?.[1]);
    if (!(number < first)) continue;
    const table = tableOf(db, name);
    await db
      .transaction()
      .execute(async (tx) => {
        // Never waits: who waits for such a lock makes all that come after it wait too.
        await sql`lock table ${table} in access exclusive mode nowait`.execute(tx);
        await sql`drop table ${table}`.execute(tx);
      })
      .catch((error: unknown) => {
        if (!isTakenOrGone(error)) throw error;
      });
  }
}

/** 55P03 lock not available · 42P01 undefined table: another replica has dropped it. */
function isTakenOrGone(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return code === "55P03" || code === "42P01";
}
