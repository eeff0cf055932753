import { type Marks, scanStart } from "./marks.ts";
import type { OutboxTableNames, Query } from "./tables.ts";

/** What is in an outbox. Each number is counted up to 10,000. */
export interface OutboxContents {
  /** Events that are to be published now or when a failed one has been; those of them that failed included. */
  readonly pending: number;
  /** Events that are published later, as their publisher wanted. */
  readonly delayed: number;
  /** Events whose last attempt was returned or refused, and that wait for the next one. */
  readonly failed: number;
  /** Events that wait for an operator. */
  readonly parked: number;
  /** Time since the oldest pending event was added, in ms; 0 when there is none. */
  readonly oldestMs: number;
}

const MAX_COUNT = 10_000;

/** @param marks below which nothing need be read */
export async function readContents(
  query: Query,
  tables: OutboxTableNames,
  marks: Pick<Marks, "firstIds" | "dueFromMs" | "incarnation">,
): Promise<OutboxContents> {
  const counted = (where: string, orderBy: string) =>
    `(select count(*)::int4 from (select from ${deferred} where ${where} order by ${orderBy} limit ${MAX_COUNT}) d)`;
  const { outbox, deferred, shards } = tables;
  const shardsFrom = `${shards} s ${scanStart(tables, ["$1", "$2", "$3"])}`;
  const [row] = await query<Omit<OutboxContents, "oldestMs"> & { behind: number; oldest_ms: number | null }>(
    `select
      (select count(*)::int4 from (
        select from ${shardsFrom} cross join lateral (
          select from ${outbox} o where o.shard = s.shard and o.id >= m.first order by o.shard, o.id limit ${MAX_COUNT}
        ) o limit ${MAX_COUNT}
      ) o) as pending,
      ${counted("state = 'delayed'", "state, id")} as delayed,
      ${counted("state = 'failed'", "state, id")} + (
        select count(*)::int4 from (select from ${outbox} where not_before is not null limit ${MAX_COUNT}) o
      ) as failed,
      ${counted("state = 'failed'", "state, id")} + ${counted("state = 'behind'", "key, id")} as behind,
      ${counted("state = 'parked'", "state, id")} as parked,
      (select (extract(epoch from clock_timestamp() - min(time)) * 1000)::float8 from (
        select o.time from ${shardsFrom} cross join lateral (
          select o.time from ${outbox} o where o.shard = s.shard and o.id >= m.first order by o.shard, o.id limit 1
        ) o
        union all
        (select time from ${deferred} where state = 'failed' order by state, id limit ${MAX_COUNT})
      ) oldest) as oldest_ms`,
    [marks.firstIds.map(String), marks.dueFromMs, marks.incarnation],
  );
  const { pending = 0, delayed = 0, failed = 0, parked = 0, behind = 0, oldest_ms = 0 } = row ?? {};
  const capped = (count: number) => Math.min(count, MAX_COUNT);
  return {
    pending: capped(pending + behind),
    delayed,
    failed: capped(failed),
    parked,
    oldestMs: Math.max(0, Math.round(oldest_ms ?? 0)),
  };
}
