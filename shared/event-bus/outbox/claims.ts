import type { QueryExecutorProvider } from "kysely";
import type { Logger } from "#shared/logging";
import { createShardHolding, type HeldShards, type ShardPick } from "./holding.ts";
import { createMarks, incarnationOf, type Marks, scanStart } from "./marks.ts";
import { type ClaimedRow, type OutboxRow, type Outcome, selectEvent, toOutboxRow } from "./rows.ts";
import { createSettle } from "./settle.ts";
import { SHARDS } from "./shard.ts";
import { outboxTables, type Query, queryOn } from "./tables.ts";

/** Shards with something to publish, held for this relay alone. */
export interface Claim {
  readonly shards: readonly number[];
  /** The events that are to be published first, in their order. */
  readonly rows: readonly OutboxRow[];
  /** Further events, besides those that were claimed and have no outcome yet, and the later ones of their keys. */
  more(limit: number, unsettled: readonly OutboxRow[]): Promise<readonly OutboxRow[]>;
  /** Writes outcomes. They take effect at the latest when the claim ends. */
  settle(outcomes: readonly Outcome[]): Promise<void>;
  /** Keeps the claim for another `leaseMs`. Rejects when it is lost: another relay may publish the same events by now. */
  keepAlive(): Promise<void>;
}

/** Which relay may publish what. */
export interface Claims {
  /**
   * Runs the work with the next shards that are free and have something due. They are given back at the end.
   *
   * @param limit maximum number of events
   * @param leaseMs time without a statement after which the claim of a process that has stalled or died is over
   * @returns number of events that were claimed; undefined when there are no such shards
   */
  claim(limit: number, leaseMs: number, work: (claim: Claim) => Promise<void>): Promise<number | undefined>;
  /** Keeps scans short. To be called about once a second while events pass. */
  refresh(): Promise<void>;
  /** Forgets what is known of the database. To be called after an outage. */
  reset(): void;
  readonly marks: Pick<Marks, "firstIds" | "dueFromMs" | "incarnation">;
}

/** Maximum size of the bodies of a shard in a claim; a larger one is claimed alone. */
const MAX_BYTES = 4 * 1024 * 1024;
/**
 * Maximum number of shards in a claim. More keys are published at the same time then: those of one key are published one after
 * the other, each after the confirmation of the one before.
 */
const MAX_SHARDS = 6;
/** Each write of a mark leaves a dead row in outbox_shards. After a restart the first scan reads up to so many dead rows. */
const PERSIST_EVERY_IDS = 50_000n;

interface Picked {
  readonly shard: number;
  readonly first: bigint;
  readonly first_id: bigint;
  readonly leased: boolean;
  readonly due: boolean | null;
  readonly fresh: boolean | null;
  readonly beside_old: boolean;
  readonly incarnation: string;
}

/** @param logger gets an error when the sequence of the outbox went back */
export function createClaims(db: QueryExecutorProvider, logger: Pick<Logger, "error">): Claims {
  const tables = outboxTables(db);
  const { outbox, deferred, shards } = tables;
  const holding = createShardHolding(db, tables);
  const marks = createMarks(tables, logger);
  const settle = createSettle(tables);
  const refreshQuery = queryOn(db);
  /** Where the next pick begins, so that each shard has its turn. */
  let nextShard = 0;
  /** Shards whose last claim was of deferred events: the next one is of others. */
  const deferredLast = new Set<number>();

  // `order by` names the index's columns, so that no other plan is tried.
  const select = `
    select s.shard, m.first, s.first_id, ${incarnationOf(tables)} as incarnation, s.lease is not null as leased, w.due, w.fresh, (
      select bool_or(x.lease_until > now() - interval '1 day') from ${shards} x
    ) as beside_old
    from ${shards} s
    ${scanStart(tables, ["$1", "$2", "$4"])}
    cross join lateral (select (
      select true from ${outbox} o where o.shard = s.shard and o.id >= m.first order by o.shard, o.id limit 1
    ) as fresh, (
      select true from ${deferred} d
      where d.shard = s.shard and d.due >= m.due_from and d.due <= statement_timestamp()
      order by d.shard, d.due limit 1
    ) as due offset 0) w`;
  const halted = (table: string) => `case when ${table}.key <> '' then (
    select true from ${deferred} f where f.state = 'failed' and f.key <> '' and f.key = ${table}.key limit 1
  ) end`;
  const upToSize = (rows: string, order: string) => `
    select r.* from (
      select r.*, sum(octet_length(r.body)) over (order by ${order}) - octet_length(r.body) as bytes_before from (${rows}) r
    ) r where r.bytes_before < ${MAX_BYTES} order by ${order}`;
  // An earlier version keeps failed events in the table, and so does this one beside it.
  const waits = "o.not_before > statement_timestamp()";
  const notHaltedByOld = `
    and (o.not_before is null or o.not_before <= statement_timestamp()) and o.key <> all(array(
      select f.key from ${outbox} f where f.shard = s.shard and f.not_before > statement_timestamp() and f.key <> ''
    ))`;
  const fetchFresh = (where: string) => {
    const ofShard = `
      select 'pending' as state, o.shard, ${selectEvent("o")}, ${halted("o")} as halted, case when ${waits} then
        (extract(epoch from o.not_before - statement_timestamp()) * 1000)::float8 end as wait_ms
      from ${outbox} o where o.shard = s.shard and o.id >= s.first ${where} order by o.shard, o.id limit $3`;
    return `
      select r.* from unnest($1::int2[], $2::int8[]) as s (shard, first)
      cross join lateral (${upToSize(ofShard, "r.id")}) r`;
  };
  const fetch = fetchFresh("");
  const fetchBesideOld = fetchFresh(notHaltedByOld);
  const except = "and o.id <> all($4::int8[]) and o.key <> all($5::text[])";
  const fetchMore = fetchFresh(except);
  const fetchMoreBesideOld = fetchFresh(`${except} ${notHaltedByOld}`);
  // A key whose first event has just become due, and has not failed itself, is likely to go on: its others come with it.
  const fetchDue = upToSize(
    `with heads as materialized (
      select d.id, d.key, d.state = 'failed' and d.attempts = 0 and d.key <> '' as goes_on,
        case when d.state = 'delayed' then ${halted("d")} end as halted
      from ${deferred} d
      where d.shard = $1 and d.due >= to_timestamp($2::float8 / 1000) and d.due <= statement_timestamp()
      order by d.shard, d.due limit $3
    ), chosen as (
      select h.id, h.halted, false as follows from heads h
      union all
      select b.id, null, true from heads h cross join lateral (
        select b.id from ${deferred} b where b.state = 'behind' and b.key = h.key and b.id > h.id
        order by b.key, b.id limit $3
      ) b where h.goes_on
    )
    select d.state, d.shard, ${selectEvent("d")}, c.halted, null::float8 as wait_ms, c.follows
    from (select * from chosen order by follows, id limit $3) c cross join lateral (
      select * from ${deferred} d where d.id = c.id offset 0
    ) d`,
    "r.follows, r.id",
  );

  function claimOf({ picked, query, atomically, keepAlive }: HeldShards<Picked>, rows: readonly OutboxRow[]): Claim {
    return {
      shards: picked.map(({ shard }) => shard),
      rows,
      async more(limit, unsettled) {
        const ids = unsettled.map(({ id }) => String(id));
        const keys = [...new Set(unsettled.map(({ envelope }) => envelope.key))].filter((key) => key !== "");
        const text = picked[0]?.beside_old ? fetchMoreBesideOld : fetchMore;
        return queryFresh(text, picked, shareOf(limit, picked), query, [ids, keys]);
      },
      settle: (outcomes) => atomically((write) => settle(write, outcomes, picked[0]?.beside_old === true)),
      keepAlive,
    };
  }

  /** @param limit maximum number of events of a shard */
  async function queryFresh(
    text: string,
    picked: readonly Picked[],
    limit: number,
    query: Query,
    more: readonly unknown[] = [],
  ): Promise<OutboxRow[]> {
    const firsts = picked.map(({ first }) => String(first));
    const rows = await query<ClaimedRow>(text, [picked.map(({ shard }) => shard), firsts, limit, ...more]);
    return rows.map(toOutboxRow).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  async function fetchRows(picked: readonly Picked[], query: Query, limit: number): Promise<readonly OutboxRow[]> {
    const rows: OutboxRow[] = [];
    const others: Picked[] = [];
    for (const each of picked) {
      const { shard, due, fresh } = each;
      if (due !== true || (fresh === true && deferredLast.delete(shard))) others.push(each);
      else {
        deferredLast.add(shard);
        for (const row of await query<ClaimedRow>(fetchDue, [shard, marks.dueFromMs, limit]))
          rows.push(toOutboxRow(row));
      }
    }
    const text = others[0]?.beside_old ? fetchBesideOld : fetch;
    return others.length === 0 ? rows : [...rows, ...(await queryFresh(text, others, limit, query))];
  }

  /** To be called before the rows of the shard are fetched. */
  async function noteHold({ shard, first, first_id, leased, incarnation }: Picked, query: Query): Promise<void> {
    if (marks.incarnation !== "" && incarnation !== marks.incarnation) marks.reset();
    nextShard = (shard + 1) % SHARDS;
    // The earlier version's relay that held it has overrun its lease: what it still writes is to be refused.
    if (leased) await query(`update ${shards} set lease = null where shard = $1`, [shard]);
    if (first - first_id >= PERSIST_EVERY_IDS) {
      await query(`update ${shards} set first_id = $2 where shard = $1`, [shard, String(first)]);
    }
  }

  return {
    async claim(limit, leaseMs, work) {
      const pick: ShardPick = {
        select,
        where: "(w.fresh or w.due)",
        orderBy: `(s.shard + ${SHARDS} - $3) % ${SHARDS}`,
        parameters: [marks.firstIds.map(String), marks.dueFromMs, nextShard, marks.incarnation],
      };
      let claimed = 0;
      const found = await holding.hold<Picked>(pick, Math.min(MAX_SHARDS, limit), leaseMs, async (held) => {
        for (const picked of held.picked) await noteHold(picked, held.query);
        const rows = await fetchRows(held.picked, held.query, shareOf(limit, held.picked));
        claimed = rows.length;
        if (rows.length > 0) await work(claimOf(held, rows));
      });
      return found ? claimed : undefined;
    },
    refresh: () => marks.refresh(refreshQuery),
    reset: marks.reset,
    marks,
  };
}

/** The part of a claim's events that one of its shards may have. */
function shareOf(limit: number, picked: readonly Picked[]): number {
  return Math.max(1, Math.floor(limit / picked.length));
}
