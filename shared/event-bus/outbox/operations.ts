import type { QueryExecutorProvider } from "kysely";
import type { EventEnvelope } from "../envelope.ts";
import { createShardHolding } from "./holding.ts";
import { EVENT_COLUMNS, type EventRow, type OutboxEventState, selectEvent, toEnvelope } from "./rows.ts";
import { promote } from "./settle.ts";
import { type OutboxTableNames, outboxTables, type Query, queryOn } from "./tables.ts";

/** An event in the outbox, for operators. */
export interface OutboxEvent {
  /** Its place in the outbox. Events of one key are published in this order. */
  readonly id: bigint;
  readonly eventId: string;
  readonly type: string;
  readonly key: string;
  readonly routingKey: string;
  readonly time: Date;
  readonly state: OutboxEventState;
  /** When it is published or tried again; undefined where that depends on other events or an operator. */
  readonly due: Date | undefined;
  /** Attempts that failed. */
  readonly attempts: number;
  readonly lastError: string | undefined;
  /** Size of the body. */
  readonly bytes: number;
}

export interface WholeOutboxEvent extends OutboxEvent {
  readonly envelope: EventEnvelope;
}

export interface OutboxListOptions {
  /** Default: all states. */
  readonly state?: OutboxEventState | undefined;
  /** Default 100. */
  readonly limit?: number | undefined;
  /** Only events with a higher id, for the next page. */
  readonly after?: bigint | undefined;
}

/** What operators do with events in the outbox. A relay that has an event in hand is waited for, up to 5 s. */
export interface OutboxOperations {
  /** Events by id, the lowest first. */
  list(options?: OutboxListOptions): Promise<OutboxEvent[]>;
  show(id: bigint): Promise<WholeOutboxEvent | undefined>;
  /**
   * Takes events out of the way of others, until `retry` or `drop`.
   *
   * @returns how many
   */
  park(ids: readonly bigint[], reason?: string): Promise<number>;
  /**
   * Makes events due now: parked, delayed and failed ones. An event that waits behind another stays as it is.
   *
   * @returns how many
   */
  retry(ids: readonly bigint[]): Promise<number>;
  /**
   * Deletes events. They are never published.
   *
   * @returns how many
   */
  drop(ids: readonly bigint[]): Promise<number>;
}

interface ListRow extends EventRow {
  readonly state: OutboxEventState;
  readonly due_ms: number | null;
  readonly bytes: number;
}

const LIST_LIMIT = 100;

export function createOperations(db: QueryExecutorProvider): OutboxOperations {
  const tables = outboxTables(db);
  const { outbox, deferred } = tables;
  const query = queryOn(db);
  const holding = createShardHolding(db, tables);

  const NO_BODY = "''::bytea";
  const pending = (body?: string) => `
    select 'pending' as state, (extract(epoch from o.not_before) * 1000)::float8 as due_ms,
      octet_length(o.body) as bytes, ${selectEvent("o", body)} from ${outbox} o`;
  const others = (body?: string) => `
    select o.state, (extract(epoch from o.due) * 1000)::float8 as due_ms,
      octet_length(o.body) as bytes, ${selectEvent("o", body)} from ${deferred} o`;

  /** In each shard of the events, one after the other. */
  async function inShards(ids: readonly bigint[], work: (query: Query, ids: string[]) => Promise<number>) {
    const found = await query<{ shard: number; ids: bigint[] }>(
      `select shard, array_agg(id order by id) as ids from (
        select shard, id from ${outbox} where id = any($1::int8[])
        union all select shard, id from ${deferred} where id = any($1::int8[])
      ) found group by shard order by shard`,
      [ids.map(String)],
    );
    let count = 0;
    for (const { shard, ids: there } of found) {
      await holding.holdOne(shard, async (inShard) => {
        count += await work(inShard, there.map(String));
      });
    }
    return count;
  }

  return {
    async list({ state, limit = LIST_LIMIT, after = 0n } = {}) {
      const ofPending = `(${pending(NO_BODY)} where o.id > $1::int8 order by o.id limit $2::int4)`;
      const ofOthers =
        state === undefined
          ? `(${others(NO_BODY)} where o.id > $1::int8 order by o.id limit $2::int4)`
          : `(${others(NO_BODY)} where o.state = $3 and o.id > $1::int8 order by o.state, o.id limit $2::int4)`;
      const parts = state === undefined ? [ofPending, ofOthers] : [state === "pending" ? ofPending : ofOthers];
      const rows = await query<ListRow>(`select * from (${parts.join(" union all ")}) e order by id limit $2::int4`, [
        String(after),
        limit,
        ...(state === undefined || state === "pending" ? [] : [state]),
      ]);
      return rows.map(toEvent);
    },

    async show(id) {
      const [row] = await query<ListRow>(
        `${pending()} where o.id = $1::int8 union all ${others()} where o.id = $1::int8 limit 1`,
        [String(id)],
      );
      return row && { ...toEvent(row), envelope: toEnvelope(row) };
    },

    park: (ids, reason = "parked by an operator") =>
      inShards(ids, async (inShard, there) => {
        const moved = await inShard(
          `with gone as (delete from ${outbox} where id = any($1::int8[]) returning *)
          insert into ${deferred} (id, ${EVENT_COLUMNS}, attempts, state, last_error)
          select id, ${EVENT_COLUMNS}, attempts, 'parked', $2 from gone returning id`,
          [there, reason],
        );
        const changed = await inShard<{ key: string }>(
          `update ${deferred} set state = 'parked', due = null, last_error = $2
          where id = any($1::int8[]) and state <> 'parked' returning key`,
          [there, reason],
        );
        await promoteKeys(tables, inShard, changed);
        return moved.length + changed.length;
      }),

    retry: (ids) =>
      inShards(ids, async (inShard, there) => {
        const old = await inShard(
          `update ${outbox} set not_before = null where id = any($1::int8[]) and not_before is not null returning id`,
          [there],
        );
        // One that was parked no longer holds its key, and does not again unless it fails.
        const changed = await inShard(
          `update ${deferred} set due = clock_timestamp(), state = case state when 'parked' then 'delayed' else state end
          where id = any($1::int8[]) and state in ('parked', 'delayed', 'failed') returning id`,
          [there],
        );
        return old.length + changed.length;
      }),

    drop: (ids) =>
      inShards(ids, async (inShard, there) => {
        const pendingGone = await inShard(`delete from ${outbox} where id = any($1::int8[]) returning id`, [there]);
        const gone = await inShard<{ key: string }>(
          `delete from ${deferred} where id = any($1::int8[]) returning key`,
          [there],
        );
        await promoteKeys(tables, inShard, gone);
        return pendingGone.length + gone.length;
      }),
  };
}

async function promoteKeys(tables: OutboxTableNames, query: Query, rows: readonly { key: string }[]): Promise<void> {
  const keys = new Map(rows.map(({ key }) => [key, 0n]));
  keys.delete("");
  if (keys.size > 0) await promote(tables, query, keys);
}

function toEvent(row: ListRow): OutboxEvent {
  return {
    id: row.id,
    eventId: row.event_id,
    type: row.type,
    key: row.key,
    routingKey: row.routing_key,
    time: new Date(row.time_ms),
    state: row.state,
    due: row.due_ms === null ? undefined : new Date(row.due_ms),
    attempts: row.attempts,
    lastError: row.last_error ?? undefined,
    bytes: row.bytes,
  };
}
