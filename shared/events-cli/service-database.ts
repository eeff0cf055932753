import { existsSync } from "node:fs";
import type { Kysely } from "kysely";
import { createDatabase, type DatabaseConfig } from "#shared/database";
import { DomainError } from "#shared/errors";
import { createReadiness } from "#shared/lifecycle";
import { createLogger } from "#shared/logging";

/** Where a service has its tables. */
export interface ServiceDatabase {
  /** The `database` section of its configuration. */
  readonly config: DatabaseConfig;
  readonly schema: string;
}

const OPEN_TIMEOUT_MS = 10_000;
const EMBEDDED = "pglite:";

/**
 * Opens a service's database for the time of `work`, without its migrations. An embedded database can be opened while no
 * process has its folder.
 *
 * @throws DomainError DATABASE_UNAVAILABLE, whose message says why
 */
export async function withServiceDatabase<T>(
  { config, schema }: ServiceDatabase,
  work: (db: Kysely<unknown>) => Promise<T>,
): Promise<T> {
  refuseWithoutFolder(config.url);
  const readiness = createReadiness();
  const logger = createLogger({ name: "events command", config: { level: "silent", format: "json" } });
  const database = createDatabase<unknown>({ config, schema, migrations: {}, logger, readiness });
  database.start();
  try {
    try {
      await database.ready(AbortSignal.timeout(OPEN_TIMEOUT_MS));
    } catch (cause) {
      const [component] = readiness.state().components;
      throw unavailable(`the database of the schema ${schema}: ${component?.reason ?? "no answer"}`, cause);
    }
    return await work(database.db);
  } finally {
    await database.close();
  }
}

/** Opening an embedded database would make it. */
function refuseWithoutFolder(url: string): void {
  if (!url.startsWith(EMBEDDED)) return;
  const folder = url.slice(EMBEDDED.length);
  if (folder === "memory") throw unavailable("the service's database is in the memory of its process");
  if (!existsSync(folder)) throw unavailable(`there is no embedded database at ${folder}: set DATABASE_URL`);
}

function unavailable(message: string, cause?: unknown): DomainError {
  return new DomainError("unavailable", "DATABASE_UNAVAILABLE", message, { cause });
}
