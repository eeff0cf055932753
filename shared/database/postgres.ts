import { type Dialect, type Kysely, PostgresDialect, type PostgresPoolClient, sql } from "kysely";
import pg from "pg";
import { pgTypes } from "./column-types.ts";
import { type DatabaseConfig, describePostgres } from "./config.ts";
import { type Engine, onOneConnection } from "./engine.ts";
import { databaseUnavailable, isLockTimeout } from "./errors.ts";
import { finishesWithin } from "./finishes-within.ts";
import { createConnectionWatch } from "./postgres-client.ts";

export interface PostgresOptions {
  readonly config: DatabaseConfig;
  /** What unqualified names mean, and who `pg_stat_activity` says this is. */
  readonly schema: string;
  /** Called when a connection breaks or cannot be made. */
  readonly onTrouble: () => void;
}

/** One for all schemas of a database, so that services that share one do not trip over each other's DDL. */
const MIGRATION_LOCK = 4_907_163_254_111;
const LOCK_TIMEOUT_MS = 30_000;
// How long a process that has stalled inside a transaction may hold its locks.
const IDLE_IN_TRANSACTION_MS = 60_000;
const IDLE_CONNECTION_MS = 30_000;
const CLOSE_TIMEOUT_MS = 5_000;
const END_TIMEOUT_MS = 1_000;

export function createPostgresEngine(options: PostgresOptions): Engine {
  const { config, schema, onTrouble } = options;
  const connection: pg.ClientConfig = {
    connectionString: config.url,
    application_name: `meridian-${schema}`,
    // A service's statements are short: to compile one costs more than to run it. And its rows are in memory, or on a disk
    // that does not turn: an index is worth it, also where there are no statistics yet.
    options: `-c search_path=${schema},public -c jit=off -c random_page_cost=1.1`,
    connectionTimeoutMillis: config.connectTimeoutMs,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types: pgTypes,
  };
  const pool = new pg.Pool({
    ...connection,
    max: config.poolSize,
    idleTimeoutMillis: IDLE_CONNECTION_MS,
    statement_timeout: config.statementTimeoutMs,
    // On our side of the wire, for a server that has fallen silent: its own timeout always comes first.
    query_timeout: config.statementTimeoutMs + config.connectTimeoutMs,
  });
  const live = new Set<pg.PoolClient>();
  const watch = createConnectionWatch(onTrouble);
  pool.on("connect", (client) => {
    live.add(client);
    watch.watch(client);
  });
  pool.on("remove", (client) => live.delete(client));
  // An idle connection broke. The watch has told already, and the pool has dropped it.
  pool.on("error", () => {});

  async function lend(admit: () => void): Promise<PostgresPoolClient> {
    admit();
    let client: pg.PoolClient;
    try {
      client = await pool.connect();
    } catch (error) {
      onTrouble();
      throw databaseUnavailable("no connection to the database", error);
    }
    return watch.guard(client, (destroy) => client.release(destroy));
  }

  async function connectAlone(settings: pg.ClientConfig): Promise<pg.Client> {
    const client = new pg.Client({ ...connection, ...settings });
    watch.watch(client);
    try {
      await client.connect();
      return client;
    } catch (error) {
      await end(client);
      throw databaseUnavailable("no connection to the database", error);
    }
  }

  return {
    name: describePostgres(config.url),
    limits: { statementTimeoutMs: config.statementTimeoutMs, idleInTransactionTimeoutMs: IDLE_IN_TRANSACTION_MS },

    createDialect: (_, admit) => dialectOver(() => lend(admit)),

    async exclusively<T>(work: (db: Kysely<unknown>) => Promise<T>, signal: AbortSignal): Promise<T> {
      const client = await connectAlone({ lock_timeout: LOCK_TIMEOUT_MS });
      const abandon = () => {
        watch.giveUp(client, signal.reason);
        void end(client);
      };
      signal.addEventListener("abort", abandon, { once: true });
      try {
        signal.throwIfAborted();
        const dialect = dialectOver(async () => watch.guard(client, () => {}));
        return await onOneConnection(dialect, async (db) => {
          // Held by the session, so its end gives it back, however it ends.
          await sql`select pg_advisory_lock(${sql.lit(MIGRATION_LOCK)})`.execute(db);
          return await work(db);
        });
      } catch (error) {
        if (isLockTimeout(error)) throw databaseUnavailable("a lock in the database is held for long", error);
        throw error;
      } finally {
        signal.removeEventListener("abort", abandon);
        await end(client);
      }
    },

    async probe() {
      if (pool.totalCount >= config.poolSize && pool.idleCount === 0) return false;
      try {
        await probePooled();
      } catch {
        // One stale connection is no outage: what a new one says counts, and is thrown.
        const client = await connectAlone({ query_timeout: config.connectTimeoutMs });
        try {
          await client.query("select 1");
        } catch (error) {
          throw databaseUnavailable("the database does not answer", error);
        } finally {
          await end(client);
        }
      }
      return true;
    },

    async close() {
      if (await finishesWithin(pool.end(), CLOSE_TIMEOUT_MS)) return;
      for (const client of live) {
        watch.giveUp(client, new Error("closed before its transaction ended"));
        void end(client);
      }
    },
  };

  async function probePooled(): Promise<void> {
    const client = await pool.connect();
    try {
      await client.query({ text: "select 1", query_timeout: config.connectTimeoutMs } as pg.QueryConfig);
      client.release();
    } catch (error) {
      client.release(true);
      throw error;
    }
  }
}

/** The goodbye to a server that has fallen silent would never end. */
async function end(client: pg.ClientBase & { end(): Promise<void> }): Promise<void> {
  // It rejects for no reason but a connection that is gone already.
  await finishesWithin(client.end(), END_TIMEOUT_MS).catch(() => {});
}

/** Kysely's dialect on clients of ours. It never ends the pool: the engine does. */
function dialectOver(connect: () => Promise<PostgresPoolClient>): Dialect {
  return new PostgresDialect({ pool: { connect, end: async () => {}, options: {} } });
}
