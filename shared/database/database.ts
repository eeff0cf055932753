import { Kysely } from "kysely";
import type { Migration } from "kysely/migration";
import type { Readiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { bounded } from "#shared/timing";
import { withCommitHooks } from "./after-commit.ts";
import { type Availability, createAvailability } from "./availability.ts";
import { type DatabaseConfig, embeddedLocation } from "./config.ts";
import { createEmbedded, type Embedded } from "./embedded.ts";
import { EmbeddedKysely } from "./embedded-kysely.ts";
import { type Engine, inOneTransaction } from "./engine.ts";
import { migrate } from "./migrate.ts";
import { OriginPlugin } from "./origin.ts";
import { createPostgresEngine } from "./postgres.ts";
import { assertTables, type RequiredTables } from "./required-tables.ts";

/** One service's tables: a schema of its own in a PostgreSQL, or in an embedded PGlite. */
export interface Database<Tables> {
  /**
   * For queries and transactions. Kysely's builders name the service's schema. Plain SQL names it with `tableOf(db, name)`:
   * unqualified names mean the schema too, but outside of a transaction only without a connection pooler in between.
   * Both engines give columns the same types (the table in column-types.ts): `int8` and `count(*)` are bigint.
   *
   * While the database is away, not migrated yet or closed, everything rejects at once with DomainError `unavailable`,
   * reason `DATABASE_UNAVAILABLE`, which `isOutage` recognises. A statement that outlives `statement_timeout`, and one that
   * gets no connection within `connect_timeout` because all are in use, reject with reason `DATABASE_TIMEOUT`. When a
   * connection breaks, its transaction is rolled back; only if it breaks during the commit is the outcome unknown.
   */
  readonly db: Kysely<Tables>;
  /**
   * Connects and migrates in the background, again and again until it succeeds; then watches. Returns at once and never
   * throws: the readiness component `database` says how it stands.
   */
  start(): void;
  /** Resolves once it is migrated and may be used. Rejects with the signal's reason, or when it is closed. */
  ready(signal?: AbortSignal): Promise<void>;
  /** Refuses new queries, waits for transactions up to 5 s, and closes what it has opened (not `embedded`). */
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly config: DatabaseConfig;
  /** The service's schema, made when missing: lower snake case, such as `book`. */
  readonly schema: string;
  /** By name; they run in the order of the names (`001_books`), each once. Never change one that has been released. */
  readonly migrations: Readonly<Record<string, Migration>>;
  readonly logger: Logger;
  /** Gets the component `database`. */
  readonly readiness: Readiness;
  /** An open PGlite to be used instead of what `config.url` says. It stays open: its owner closes it. */
  readonly embedded?: Embedded;
}

/** Time for which a migration that waits for a lock makes the queries of the running version wait behind it. */
const FIRST_LOCK_TIMEOUT_MS = 400;
const LONGEST_LOCK_TIMEOUT_MS = 1_200;

/** @throws TypeError when the schema's name is not lower snake case */
export function createDatabase<Tables>(options: DatabaseOptions): Database<Tables> {
  const { config, schema, migrations, embedded } = options;
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema)) throw new TypeError(`createDatabase: ${schema} is not lower snake case`);
  const engine = embedded ?? openEngine(config, schema, () => availability.suspect());
  const logger = options.logger.child({ database: engine.name, schema });
  const required = new Set<RequiredTables>();

  let attempts = 0;
  const availability: Availability = createAvailability({
    async prepare(signal) {
      // A longer wait each time: after 1 s, PostgreSQL cancels an autovacuum that is in the way.
      const lockTimeoutMs = Math.min(++attempts * FIRST_LOCK_TIMEOUT_MS, LONGEST_LOCK_TIMEOUT_MS);
      const { applied, unknown } = await migrate({ engine, origin, migrations, lockTimeoutMs, signal });
      attempts = 0;
      if (applied.length > 0) logger.info({ migrations: applied }, "database migrated");
      if (unknown.length > 0) logger.warn({ migrations: unknown }, "database is ahead of this version");
      if (required.size > 0) await inOneTransaction(unguarded, (db) => assertTables(db, schema, required));
    },
    probe: () => engine.probe(false),
    probeIntervalMs: config.probeIntervalMs,
    component: options.readiness.component("database"),
    logger,
  });

  if (embedded === undefined && embeddedLocation(config.url) !== undefined) {
    logger.info("embedded database, for development: set a postgres:// URL elsewhere");
  }

  async function closeNow(): Promise<void> {
    await availability.stop();
    if (embedded === undefined) await engine.close();
  }
  let closing: Promise<void> | undefined;

  const unguarded = engine.createDialect(schema, () => {});
  const origin = new OriginPlugin({
    schema,
    session: engine.session,
    limits: engine.limits,
    async probe() {
      const { kind } = await bounded(engine.probe(true), config.connectTimeoutMs);
      if (kind !== "done") availability.suspect();
      return kind === "done";
    },
    requireTables(more) {
      required.add(more);
      availability.prepareAgain();
    },
  });
  const dialect = withCommitHooks(engine.createDialect(schema, availability.assertReady));
  return {
    db: new (engine.session === undefined ? Kysely : EmbeddedKysely)<Tables>({ dialect, plugins: [origin] }),
    start: availability.start,
    ready: availability.ready,
    close() {
      closing ??= closeNow();
      return closing;
    },
  };
}

function openEngine(config: DatabaseConfig, schema: string, onTrouble: () => void): Engine {
  const location = embeddedLocation(config.url);
  if (location !== undefined) return createEmbedded(location, config.connectTimeoutMs);
  return createPostgresEngine({ config, schema, onTrouble });
}
