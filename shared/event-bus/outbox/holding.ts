import { CompiledQuery, type Kysely, type QueryExecutorProvider } from "kysely";
import { isOutage, schemaOf, sharedSessionOf } from "#shared/database";
import { createBackoff, sleep } from "#shared/timing";
import { SHARDS } from "./shard.ts";
import { type OutboxTableNames, type Query, queryOn } from "./tables.ts";

/** Shards that this process alone works on for now. */
export interface HeldShards<Picked extends { readonly shard: number }> {
  /** At least one. */
  readonly picked: readonly Picked[];
  /** Statements that see what is committed, and what `atomically` has written. */
  readonly query: Query;
  /** Runs statements that take effect together, at the latest when the shards are given back. */
  atomically(work: (query: Query) => Promise<void>): Promise<void>;
  /** Keeps the hold, which otherwise ends after `leaseMs` without a statement. Rejects when it has ended. */
  keepAlive(): Promise<void>;
}

/** Gives shards to one relay or operator at a time. */
export interface ShardHolding {
  /**
   * Runs the work while it holds the shards that the statement picks.
   *
   * @param pick selects rows of outbox_shards as `s`, the preferred one first
   * @param max maximum number of shards
   * @returns false when nothing was picked
   */
  hold<Picked extends { readonly shard: number }>(
    pick: ShardPick,
    max: number,
    leaseMs: number,
    work: (held: HeldShards<Picked>) => Promise<void>,
  ): Promise<boolean>;
  /** Waits for a shard, up to 5 s, and runs the work while it holds it. @throws Error when the shard stays taken */
  holdOne(shard: number, work: (query: Query) => Promise<void>): Promise<void>;
}

/** A statement in pieces, since the engines differ in what stands between. */
export interface ShardPick {
  readonly select: string;
  readonly where: string;
  readonly orderBy: string;
  readonly parameters: readonly unknown[];
}

const WAIT_MS = 5_000;
const LOOK_EVERY_MS = 20;
const RETRIES = 5;

export function createShardHolding(db: QueryExecutorProvider, tables: OutboxTableNames): ShardHolding {
  const session = sharedSessionOf(db);
  return session === undefined ? holdingByRowLock(db, tables) : holdingInMemory(db, session);
}

/**
 * A row lock in outbox_shards, for as long as the transaction that took it. It leaves no dead row behind, and no clock
 * decides how long it holds: the server ends the session of a process that has stalled or gone.
 */
function holdingByRowLock(db: QueryExecutorProvider, { shards }: OutboxTableNames): ShardHolding {
  function inTransaction<T>(work: (query: Query) => Promise<T>): Promise<T> {
    return db.getExecutor().provideConnection(async (connection) => {
      const query: Query = async <Row>(text: string, parameters: readonly unknown[] = []) => {
        const { rows } = await connection.executeQuery<Row>(CompiledQuery.raw(text, [...parameters]));
        return rows;
      };
      try {
        await query("begin isolation level read committed read write");
        const result = await work(query);
        await query("commit");
        return result;
      } catch (error) {
        // The error is what counts. When the session is lost, so is its transaction.
        await query("rollback").catch(() => {});
        throw error;
      }
    });
  }

  return {
    hold: ({ select, where, orderBy, parameters }, max, leaseMs, work) =>
      inTransaction(async (query) => {
        // An earlier version of the relay holds a shard by a lease, which it clears when it is done.
        const free = `
          ${select} where (s.lease is null or s.lease_until <= now()) and ${where}
          order by ${orderBy} limit ${max} for update of s skip locked`;
        // Behind a pooler, `begin` is followed by the settings of the session.
        const limited = `set_config('idle_in_transaction_session_timeout', '${Math.ceil(leaseMs)}', true)`;
        const picked = await query<never>(`select free.*, ${limited} from (${free}) free`, parameters);
        if (picked.length === 0) return false;
        await work({
          picked,
          query,
          atomically: (write) => write(query),
          keepAlive: async () => void (await query("select 1")),
        });
        return true;
      }),

    holdOne: (shard, work) =>
      inTransaction(async (query) => {
        await query(`set local lock_timeout = ${WAIT_MS}`);
        await query(`select from ${shards} where shard = $1 for update`, [shard]);
        await work(query);
      }),
  };
}

/** Shards that are held, by session and schema. */
const taken = new WeakMap<object, Map<string, Set<number>>>();

/**
 * In memory: the embedded database has one session, which a transaction would keep from everything else, and one process.
 */
function holdingInMemory(db: QueryExecutorProvider, session: object): ShardHolding {
  const query = queryOn(db);
  const schemas = taken.get(session) ?? new Map<string, Set<number>>();
  taken.set(session, schemas);
  const held = schemas.get(schemaOf(db)) ?? new Set<number>();
  schemas.set(schemaOf(db), held);

  const embedded = db as unknown as Kysely<unknown>;

  /** Waits for a session that is busy: what was published and is not taken out would be published again. */
  async function atomically(work: (query: Query) => Promise<void>): Promise<void> {
    const backoff = createBackoff({ initialMs: LOOK_EVERY_MS, maxMs: WAIT_MS });
    for (;;) {
      try {
        return await embedded.transaction().execute((tx) => work(queryOn(tx)));
      } catch (error) {
        if (!isOutage(error) || backoff.failures === RETRIES) throw error;
        await sleep(backoff.next());
      }
    }
  }

  return {
    async hold({ select, where, orderBy, parameters }, max, _leaseMs, work) {
      const found = await query<{ readonly shard: number }>(
        `${select} where s.shard <> all($${parameters.length + 1}::int4[]) and ${where} order by ${orderBy} limit ${max}`,
        [...parameters, [...held]],
      );
      if (found.length === 0) return false;
      // Another may have been quicker. Then there may be more to pick.
      const picked = found.filter(({ shard }) => !held.has(shard));
      for (const { shard } of picked) held.add(shard);
      try {
        if (picked.length > 0) {
          await work({ picked: picked as unknown as readonly never[], query, atomically, keepAlive: async () => {} });
        }
      } finally {
        for (const { shard } of picked) held.delete(shard);
      }
      return true;
    },

    async holdOne(shard, work) {
      for (let waited = 0; held.has(shard); waited += LOOK_EVERY_MS) {
        if (waited >= WAIT_MS || shard >= SHARDS) throw new Error(`a relay is at work on the outbox's shard ${shard}`);
        await sleep(LOOK_EVERY_MS);
      }
      held.add(shard);
      try {
        await atomically(work);
      } finally {
        held.delete(shard);
      }
    },
  };
}
