import { type Kysely, sql } from "kysely";
import { DEFAULT_MIGRATION_TABLE, type Migration, Migrator } from "kysely/migration";
import { isOutage } from "./errors.ts";

/** What `migrate` did. */
export interface MigrateResult {
  /** The names of the migrations that this run applied. */
  readonly applied: readonly string[];
  /** Applied before, by a newer version of the service; nothing is done about them. */
  readonly unknown: readonly string[];
}

/**
 * Makes the schema and applies what is missing, in the order of the names: all of it or none, in one transaction. The
 * migrations' unqualified names mean the schema, in Kysely's builders and in plain SQL.
 *
 * @param db one connection, alone in migrating, whose builders name the schema
 * @throws Error that names the migration, with its cause; an outage as it is
 */
export async function migrate(
  db: Kysely<unknown>,
  schema: string,
  migrations: Readonly<Record<string, Migration>>,
): Promise<MigrateResult> {
  const unknown = (await appliedBefore(db, schema)).filter((name) => !Object.hasOwn(migrations, name));
  const known = Object.entries(migrations).map(([name, migration]) => [name, inSchema(schema, migration)] as const);
  // Kysely refuses a database that is ahead. Then a service could not be rolled back to the version before a migration.
  const later = unknown.map((name) => [name, { up: neverRuns }] as const);
  const migrator = new Migrator({
    db,
    provider: { getMigrations: async () => Object.fromEntries([...known, ...later]) },
    migrationTableSchema: schema,
  });
  const { error, results = [] } = await migrator.migrateToLatest();
  if (error !== undefined) {
    if (isOutage(error)) throw error;
    const failed = results.find((result) => result.status === "Error")?.migrationName;
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`migration${failed === undefined ? "" : ` ${failed}`} of ${schema} failed: ${message}`, {
      cause: error,
    });
  }
  return { applied: results.map((result) => result.migrationName), unknown };
}

async function appliedBefore(db: Kysely<unknown>, schema: string): Promise<string[]> {
  const table = sql.id(schema, DEFAULT_MIGRATION_TABLE);
  const { rows: exists } = await sql<{ exists: boolean }>`
    select exists (
      select from pg_tables where schemaname = ${schema} and tablename = ${DEFAULT_MIGRATION_TABLE}
    ) as exists`.execute(db);
  if (exists[0]?.exists !== true) return [];
  const { rows } = await sql<{ name: string }>`select name from ${table} order by name`.execute(db);
  return rows.map((row) => row.name);
}

function inSchema(schema: string, migration: Migration): Migration {
  return {
    ...migration,
    async up(db) {
      // `local`: it ends with the transaction, as the embedded database's one session is everybody's.
      await sql`set local search_path to ${sql.id(schema)}, public`.execute(db);
      await migration.up(db);
    },
  };
}

function neverRuns(): never {
  throw new Error("a migration that was applied already ran again");
}
