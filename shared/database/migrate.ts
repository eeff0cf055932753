import { type Kysely, sql } from "kysely";
import { DEFAULT_MIGRATION_TABLE, type Migration, Migrator } from "kysely/migration";
import type { Engine } from "./engine.ts";
import { inOneLine, isLockConflict, isOutage, MigrationWaiting } from "./errors.ts";
import type { OriginPlugin } from "./origin.ts";

/** What `migrate` did. */
export interface MigrateResult {
  /** The names of the migrations that this run applied. */
  readonly applied: readonly string[];
  /** Applied before, by a newer version of the service; nothing is done about them. */
  readonly unknown: readonly string[];
}

export interface MigrateOptions {
  readonly engine: Engine;
  readonly origin: OriginPlugin;
  readonly migrations: Readonly<Record<string, Migration>>;
  /** Longest wait for one lock. All queries that need the same lock queue up behind a waiting migration. */
  readonly lockTimeoutMs: number;
  readonly signal: AbortSignal;
}

/** One for all schemas of a database, so that services that share one do not trip over each other's DDL. */
const MIGRATION_LOCK = 4_907_163_254_111n;

const MAX_SESSIONS_NAMED = 3;

const thisDatabase = sql`(select oid from pg_database where datname = current_database())`;

/**
 * Makes the schema and applies what is missing, in the order of the names: all of it or none, in one transaction. Locks
 * belong to that transaction, so it can run through a connection pooler. The migrations' unqualified names mean the
 * schema, in Kysely's builders and in plain SQL.
 *
 * @throws MigrationWaiting when a lock is held by others, DatabaseUnavailableError in an outage, else an Error that names
 *   the migration, with its cause
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  const { engine, origin, signal } = options;
  const { schema } = origin.origin;
  try {
    return await engine.inOwnTransaction((tx) => migrateIn(tx.withPlugin(origin), options), signal);
  } catch (error) {
    if (!isLockConflict(error)) throw error;
    const holders = await engine.inOwnTransaction((tx) => oldestLockHolders(tx, schema), signal);
    throw new MigrationWaiting(`migrations of ${schema} wait for a lock, which may be held by ${holders}`, true, error);
  }
}

async function migrateIn(tx: Kysely<unknown>, options: MigrateOptions): Promise<MigrateResult> {
  const { origin, migrations, lockTimeoutMs } = options;
  const { schema } = origin.origin;
  const names = Object.keys(migrations);
  const isAhead = (name: string) => !Object.hasOwn(migrations, name);
  const before = await appliedBefore(tx, schema);
  // Nothing to do needs no lock, which another service's migration may hold for long.
  if (before !== undefined && names.every((name) => before.includes(name))) {
    return { applied: [], unknown: before.filter(isAhead) };
  }
  await takeMigrationLock(tx);
  await sql`select set_config('lock_timeout', ${`${lockTimeoutMs}ms`}, true), set_config('statement_timeout', '0', true)`.execute(
    tx,
  );
  // Again: another replica may have migrated before this one had the lock.
  const unknown = ((await appliedBefore(tx, schema)) ?? []).filter(isAhead);
  const known = Object.entries(migrations).map(([name, migration]) => [name, inSchema(schema, migration)] as const);
  // Kysely refuses a database that is ahead. Then a service could not be rolled back to the version before a migration.
  const later = unknown.map((name) => [name, { up: neverRuns }] as const);
  const migrator = new Migrator({
    db: tx,
    provider: { getMigrations: async () => Object.fromEntries([...known, ...later]) },
    migrationTableSchema: schema,
  });
  const { error, results = [] } = await migrator.migrateToLatest();
  if (error === undefined) return { applied: results.map((result) => result.migrationName), unknown };
  if (isOutage(error) || isLockConflict(error)) throw error;
  const failed = results.find((result) => result.status === "Error")?.migrationName;
  const migration = failed === undefined ? "migration" : `migration ${failed}`;
  throw new Error(`${migration} of ${schema} failed: ${inOneLine(error)}`, { cause: error });
}

/**
 * Takes the lock until the transaction ends. It conflicts with the session lock of versions that migrate under one.
 *
 * @throws MigrationWaiting when another migration has it
 */
async function takeMigrationLock(tx: Kysely<unknown>): Promise<void> {
  const { rows } = await sql<{ taken: boolean }>`
    select pg_try_advisory_xact_lock(${sql.lit(MIGRATION_LOCK)}) as taken`.execute(tx);
  if (rows[0]?.taken === true) return;
  const holder = await describeSessions(
    tx,
    sql`
      select pid from pg_locks
      where locktype = 'advisory' and granted and objsubid = 1 and database = ${thisDatabase}
        and (classid::int8 << 32) | objid::int8 = ${sql.lit(MIGRATION_LOCK)}`,
  );
  throw new MigrationWaiting(`another migration of this database runs, by ${holder}`, false);
}

/** Sessions with locks on tables of the schema. PostgreSQL does not tell afterwards which of them was in the way. */
function oldestLockHolders(tx: Kysely<unknown>, schema: string): Promise<string> {
  return describeSessions(
    tx,
    sql`
      select l.pid from pg_locks l
      join pg_class c on c.oid = l.relation
      join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = ${schema} and l.granted
        and l.database = ${thisDatabase}`,
  );
}

/** Describes the sessions with the oldest transactions among those of the given process ids. */
async function describeSessions(tx: Kysely<unknown>, pids: ReturnType<typeof sql>): Promise<string> {
  const { rows } = await sql<{ pid: number; name: string; state: string }>`
    select pid, coalesce(nullif(application_name, ''), usename, backend_type) as name, coalesce(state, 'active') as state
    from pg_stat_activity
    where pid <> pg_backend_pid() and pid in (${pids})
    order by xact_start limit ${sql.lit(MAX_SESSIONS_NAMED)}`.execute(tx);
  if (rows.length === 0) return "another session";
  const named = rows.map(({ pid, name, state }) => `the session with pid ${pid} (${name}, ${state})`);
  return named.join(" or ");
}

/** The names of the migrations applied so far; undefined before the first. */
async function appliedBefore(db: Kysely<unknown>, schema: string): Promise<string[] | undefined> {
  const { rows: exists } = await sql<{ exists: boolean }>`
    select exists (
      select from pg_tables where schemaname = ${schema} and tablename = ${DEFAULT_MIGRATION_TABLE}
    ) as exists`.execute(db);
  if (exists[0]?.exists !== true) return undefined;
  const table = sql.id(schema, DEFAULT_MIGRATION_TABLE);
  const { rows } = await sql<{ name: string }>`select name from ${table} order by name`.execute(db);
  return rows.map((row) => row.name);
}

function inSchema(schema: string, migration: Migration): Migration {
  return {
    ...migration,
    async up(db) {
      // `local`: it ends with the transaction, since the session may be shared.
      await sql`set local search_path to ${sql.id(schema)}, public`.execute(db);
      await migration.up(db);
    },
  };
}

function neverRuns(): never {
  throw new Error("a migration that was applied already ran again");
}
