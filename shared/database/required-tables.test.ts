import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type TestContext, test } from "node:test";
import { type Kysely, sql } from "kysely";
import { pino } from "pino";
import { createReadiness, type Readiness } from "#shared/lifecycle";
import { closeAfter, databaseConfig, embeddedForTest, postgresForTest, until } from "#shared/testing";
import { createDatabase, type Database, requireTables, schemaOf, sharedSessionOf, tableOf } from "./index.ts";

const engines: Record<string, (t: TestContext) => Promise<string | undefined>> = {
  PGlite: async () => "pglite:memory",
  PostgreSQL: postgresForTest,
};

interface Opened {
  readonly schema: string;
  readonly database: Database<unknown>;
  readonly readiness: Readiness;
}

async function open(t: TestContext, url: string): Promise<Opened> {
  const schema = `test_${randomUUID().replaceAll("-", "")}`;
  const readiness = createReadiness();
  const database = createDatabase<unknown>({
    config: databaseConfig({ url }),
    schema,
    migrations: {
      "001_notes": {
        // The schema is known in migrations too.
        up: (db) => sql`create table ${tableOf(db, "notes")} (title text)`.execute(db).then(() => {}),
      },
    },
    logger: pino({ level: "silent" }),
    readiness,
    ...(url === "pglite:memory" && { embedded: await embeddedForTest() }),
  });
  closeAfter(t, () => database.close());
  return { schema, database, readiness };
}

const reasonOf = (readiness: Readiness) => readiness.state().components[0]?.reason;

for (const [engine, urlFor] of Object.entries(engines)) {
  test(`${engine}: a database without a required table or column is not ready and names it`, async (t) => {
    const url = await urlFor(t);
    if (url === undefined) return;
    const { schema, database, readiness } = await open(t, url);
    requireTables(database.db, { names: ["notes", "notes.title"], hint: "never needed" });
    requireTables(database.db, { names: ["notes.body"], hint: "add notesUpgrade to the migrations" });
    database.start();
    const missing = `the column ${schema}.notes.body is missing: add notesUpgrade to the migrations`;
    await until("the column to be missed", () => reasonOf(readiness) === missing);
    const direct = await secondDatabase(t, url, schema);
    await sql`alter table ${sql.id(schema, "notes")} add column body text`.execute(direct);
    await database.ready(AbortSignal.timeout(20_000));

    // What is required later is checked at once.
    requireTables(database.db, { names: ["drafts"], hint: "add draftsMigration to the migrations" });
    const reason = `the table ${schema}.drafts is missing: add draftsMigration to the migrations`;
    await until("the table to be missed", () => reasonOf(readiness) === reason);
    await sql`create table ${sql.id(schema, "drafts")} (title text)`.execute(direct);
    await until("the table to be found", () => readiness.state().ready);
  });

  test(`${engine}: a transaction and all that is derived know their schema and session`, async (t) => {
    const url = await urlFor(t);
    if (url === undefined) return;
    const { schema, database } = await open(t, url);
    database.start();
    await database.ready(AbortSignal.timeout(20_000));
    const { db } = database;
    await db.transaction().execute(async (tx) => {
      assert.equal(schemaOf(tx), schema);
      assert.equal(sharedSessionOf(tx), sharedSessionOf(db));
      await sql`insert into ${tableOf(tx, "notes")} values ('here')`.execute(tx);
    });
    assert.deepEqual((await sql`select title from ${tableOf(db, "notes")}`.execute(db)).rows, [{ title: "here" }]);
    assert.equal(sharedSessionOf(db) !== undefined, engine === "PGlite");
    assert.throws(() => schemaOf(db.withoutPlugins()), TypeError);
  });
}

/** A Database of another schema, for statements past the one under test. */
async function secondDatabase(t: TestContext, url: string, schema: string): Promise<Kysely<unknown>> {
  const database = createDatabase<unknown>({
    config: databaseConfig({ url }),
    schema: `${schema.slice(0, 40)}_other`,
    migrations: {},
    logger: pino({ level: "silent" }),
    readiness: createReadiness(),
    ...(url === "pglite:memory" && { embedded: await embeddedForTest() }),
  });
  closeAfter(t, () => database.close());
  database.start();
  await database.ready(AbortSignal.timeout(20_000));
  return database.db;
}
