import { randomUUID } from "node:crypto";
import { after, type TestContext } from "node:test";
import { Kysely, sql } from "kysely";
import pg from "pg";
import { pino } from "pino";
import {
  createDatabase,
  type Database,
  type DatabaseConfig,
  databaseSection,
  type Embedded,
  type Migration,
  openEmbedded,
} from "#shared/database";
import { createReadiness } from "#shared/lifecycle";
import { closeAfter } from "./close-after.ts";

/** A PostgreSQL that lets us make databases; `TEST_POSTGRES_URL` names another. */
const LOCAL_POSTGRES = "postgres://postgres@127.0.0.1:5432/postgres";

let embedded: Promise<Embedded> | undefined;
// At the top of the test file's tree: in a test, `after` would mean that test's end.
after(async () => (await embedded)?.close());

/**
 * The URL of a new, empty PostgreSQL database, dropped with all its connections after the test. Without a PostgreSQL the
 * test is skipped and the answer is undefined (return then); with `CI=true` it fails.
 */
export async function postgresForTest(t: TestContext): Promise<string | undefined> {
  const url = process.env["TEST_POSTGRES_URL"] ?? LOCAL_POSTGRES;
  const name = `test_${randomUUID().replaceAll("-", "")}`;
  try {
    await asAdmin(url, `create database ${name}`);
  } catch (error) {
    if (process.env["CI"] === "true") throw new Error("CI needs a PostgreSQL", { cause: error });
    t.skip(`no PostgreSQL for tests (TEST_POSTGRES_URL): ${error instanceof Error ? error.message : error}`);
    return undefined;
  }
  closeAfter(t, () => asAdmin(url, `drop database if exists ${name} with (force)`));
  const own = new URL(url);
  own.pathname = `/${name}`;
  return own.href;
}

/**
 * A PGlite in memory, opened once a test file (1–3 s, 500 MB) and closed at its end. Tests keep apart by schemas:
 * `databaseForTest` gives each its own.
 */
export function embeddedForTest(): Promise<Embedded> {
  embedded ??= openEmbedded("pglite:memory");
  return embedded;
}

export interface DatabaseForTestOptions {
  readonly migrations: Readonly<Record<string, Migration>>;
  /** From `postgresForTest`. Default: the test file's PGlite in memory. */
  readonly url?: string;
  /** Keys of the `database` section other than the URL, as YAML has them. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** A migrated Database with a schema of its own, closed and dropped after the test. */
export async function databaseForTest<Tables>(
  t: TestContext,
  options: DatabaseForTestOptions,
): Promise<Database<Tables>> {
  const { migrations, url, settings } = options;
  const schema = `test_${randomUUID().replaceAll("-", "")}`;
  const embedded = url === undefined ? await embeddedForTest() : undefined;
  const database = createDatabase<Tables>({
    config: databaseConfig({ ...settings, url: url ?? "pglite:memory" }),
    schema,
    migrations,
    logger: pino({ level: "silent" }),
    readiness: createReadiness(),
    ...(embedded !== undefined && { embedded }),
  });
  database.start();
  closeAfter(t, async () => {
    await database.close();
    if (embedded === undefined) return;
    const db = new Kysely<unknown>({ dialect: embedded.createDialect("public", () => {}) });
    await sql`drop schema ${sql.id(schema)} cascade`.execute(db);
  });
  await database.ready(AbortSignal.timeout(20_000));
  return database;
}

/** The `database` section with its defaults. */
export function databaseConfig(yaml: Readonly<Record<string, unknown>>): DatabaseConfig {
  return databaseSection.parse(yaml);
}

async function asAdmin(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => {}); // What matters rejects below.
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
