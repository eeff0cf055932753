import { type Dialect, type Kysely, PostgresAdapter, PostgresDialect, type PostgresPoolClient } from "kysely";
import pg from "pg";
import { bounded, createBackoff, settled, sleep } from "#shared/timing";
import { pgTypes } from "./column-types.ts";
import { type DatabaseConfig, describePostgres } from "./config.ts";
import { type Engine, inOneTransaction } from "./engine.ts";
import { databaseBusy, databaseUnavailable, isReadOnly, isTooManyConnections, refusesOptions } from "./errors.ts";
import { createConnectionWatch, type PooledSession } from "./postgres-client.ts";
import { MARKER, sessionSettings } from "./session-settings.ts";

export interface PostgresOptions {
  readonly config: DatabaseConfig;
  /** What unqualified names mean, and the name of the client in `pg_stat_activity`. */
  readonly schema: string;
  /** Called when a connection breaks or cannot be made. */
  readonly onTrouble: () => void;
}

const IDLE_CONNECTION_MS = 30_000;
const CLOSE_TIMEOUT_MS = 5_000;
const END_TIMEOUT_MS = 1_000;
/** Maximum delay of a Node timer. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const INSPECT = `
  select coalesce(current_setting('${MARKER}', true), '') as marker,
    pg_is_in_recovery() or current_setting('transaction_read_only')::bool as read_only`;

export function createPostgresEngine(options: PostgresOptions): Engine {
  const { config, schema, onTrouble } = options;
  const { connectTimeoutMs } = config;
  const settings = sessionSettings(config, config.url, schema);
  const { statementTimeoutMs } = settings.limits;
  const queryTimeoutMs = statementTimeoutMs + connectTimeoutMs;
  const pooledSession: PooledSession = { settings: settings.local, statementTimeoutMs };
  /** Clients whose sessions lack the settings, because a pooler stands between. */
  const pooled = new WeakSet<pg.ClientBase>();
  /** Poolers may refuse startup options. Once one has done so, they are not sent any more. */
  let sendsOptions = true;
  // A session that has turned read-only tells of a failover: all that are older go, for each would fail a transaction.
  let generation = 0;
  const generationOf = new WeakMap<pg.ClientBase, number>();
  const live = new Set<pg.ClientBase>();

  const connection: pg.ClientConfig = {
    application_name: `meridian-${schema}`,
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types: pgTypes,
  };
  class Client extends pg.Client {
    constructor() {
      super({
        ...connection,
        connectionString: settings.url,
        // On our side of the wire, for a server that has fallen silent: its own timeout always comes first.
        ...(queryTimeoutMs <= LONGEST_TIMER_MS && { query_timeout: queryTimeoutMs }),
        ...(sendsOptions && { options: settings.startup }),
      });
    }
  }
  const pool = new pg.Pool({
    Client,
    connectionTimeoutMillis: connectTimeoutMs,
    max: config.poolSize,
    idleTimeoutMillis: IDLE_CONNECTION_MS,
    verify: (client, done) => void inspect(client).then(() => done(), done),
  });
  const watch = createConnectionWatch((cause) => {
    if (isReadOnly(cause)) generation++;
    onTrouble();
  });
  pool.on("connect", (client) => {
    live.add(client);
    watch.watch(client);
  });
  pool.on("remove", (client) => live.delete(client));
  // An idle connection broke. The watch has reported it, and the pool has dropped it.
  pool.on("error", () => {});

  /** @throws Error when the session does not take writes */
  async function inspect(client: pg.ClientBase): Promise<void> {
    generationOf.set(client, generation);
    const { rows } = await client.query<{ marker: string; read_only: boolean }>({
      text: INSPECT,
      query_timeout: connectTimeoutMs,
    } as pg.QueryConfig);
    if (rows[0]?.read_only !== false) {
      generation++;
      throw new Error("the server takes no writes: it is a standby, or default_transaction_read_only is on");
    }
    if (rows[0].marker !== "on") pooled.add(client);
  }

  /** A pooler refuses startup options by an error: then without. */
  async function withOrWithoutOptions<T>(connect: () => Promise<T>): Promise<T> {
    const sentOptions = sendsOptions;
    try {
      return await connect();
    } catch (error) {
      if (!sentOptions || !refusesOptions(error)) throw error;
      sendsOptions = false;
      return await connect();
    }
  }

  /** A client of the pool. When the server refuses one connection more, those that there are must do. */
  async function takeClient(): Promise<pg.PoolClient> {
    const giveUpAtMs = performance.now() + connectTimeoutMs;
    const backoff = createBackoff({ initialMs: 10, maxMs: 200 });
    for (;;) {
      try {
        const client = await withOrWithoutOptions(() => pool.connect());
        if (generationOf.get(client) === generation) return client;
        client.release(true);
      } catch (error) {
        if (!isTooManyConnections(error) || live.size === 0) throw error;
        if (performance.now() > giveUpAtMs) throw error;
        await sleep(backoff.next());
      }
    }
  }

  async function lend(admit: () => void): Promise<PostgresPoolClient> {
    admit();
    let client: pg.PoolClient;
    try {
      client = await takeClient();
    } catch (error) {
      const isBusy = isTooManyConnections(error) ? live.size > 0 : isFullyUsed();
      onTrouble();
      throw isBusy ? databaseBusy(error) : databaseUnavailable("no connection to the database", error);
    }
    return watch.guard(client, {
      release: (destroy) => client.release(destroy || generationOf.get(client) !== generation),
      pooled: pooled.has(client) ? pooledSession : undefined,
    });
  }

  function isFullyUsed(): boolean {
    return live.size >= config.poolSize && pool.idleCount === 0;
  }

  /** A session beside the pool. */
  async function connectAlone(url: string, more: pg.ClientConfig = {}): Promise<pg.Client> {
    const own = url === config.url ? settings : sessionSettings(config, url, schema);
    return await withOrWithoutOptions(async () => {
      const client = new pg.Client({
        ...connection,
        ...more,
        connectionString: own.url,
        ...(sendsOptions && { options: own.startup }),
      });
      watch.watch(client);
      try {
        await client.connect();
        await inspect(client);
        return client;
      } catch (error) {
        await end(client);
        throw error;
      }
    });
  }

  async function probePooled(): Promise<void> {
    const client = await pool.connect();
    try {
      await inspect(client);
      client.release();
    } catch (error) {
      client.release(true);
      throw error;
    }
  }

  return {
    name: describePostgres(config.url),
    limits: { ...settings.limits, poolSize: config.poolSize },

    createDialect: (_, admit) => dialectOver(() => lend(admit)),

    async inOwnTransaction<T>(work: (tx: Kysely<unknown>) => Promise<T>, signal: AbortSignal): Promise<T> {
      const client = await connectAlone(config.migrationUrl ?? config.url).catch((error: unknown) => {
        throw databaseUnavailable("no connection to the database", error);
      });
      const abandon = () => {
        watch.giveUp(client, signal.reason);
        void end(client);
      };
      signal.addEventListener("abort", abandon, { once: true });
      try {
        signal.throwIfAborted();
        const session = pooled.has(client) ? pooledSession : undefined;
        const guarded = watch.guard(client, { release: () => {}, pooled: session });
        return await inOneTransaction(
          dialectOver(async () => guarded),
          work,
        );
      } finally {
        signal.removeEventListener("abort", abandon);
        await end(client);
      }
    },

    async probe(mayConnect) {
      const isUsedUp = pool.totalCount >= config.poolSize && pool.idleCount === 0;
      if (isUsedUp && !mayConnect) return false;
      // One stale connection is no outage: what a new one says counts.
      if (!isUsedUp && (await settled(probePooled())).kind === "done") return true;
      try {
        await end(await connectAlone(config.url, { query_timeout: connectTimeoutMs }));
        return true;
      } catch (error) {
        if (isTooManyConnections(error) && live.size > 0) return false;
        throw databaseUnavailable("the database does not answer", error);
      }
    },

    async close() {
      if ((await bounded(pool.end(), CLOSE_TIMEOUT_MS)).kind !== "overran") return;
      for (const client of live) {
        watch.giveUp(client, new Error("closed before its transaction ended"));
        void end(client as pg.PoolClient);
      }
    },
  };
}

/** Says goodbye for a bounded time: a server that has fallen silent would never answer. */
async function end(client: pg.ClientBase & { end(): Promise<void> }): Promise<void> {
  await bounded(client.end(), END_TIMEOUT_MS);
}

/** Kysely's dialect on clients of ours. It never ends the pool: the engine does. */
function dialectOver(connect: () => Promise<PostgresPoolClient>): Dialect {
  const dialect = new PostgresDialect({ pool: { connect, end: async () => {}, options: {} } });
  dialect.createAdapter = () => new UnlockedAdapter();
  return dialect;
}

/** Without Kysely's own lock for migrations, which belongs to a session: `migrate` has one of the transaction. */
class UnlockedAdapter extends PostgresAdapter {
  override async acquireMigrationLock(): Promise<void> {}
  override async releaseMigrationLock(): Promise<void> {}
}
