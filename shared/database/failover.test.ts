import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type TestContext, test } from "node:test";
import { sql } from "kysely";
import pg from "pg";
import { createReadiness, type Readiness } from "#shared/lifecycle";
import { createLogger } from "#shared/logging";
import { closeAfter, databaseConfig, postgresForTest, until } from "#shared/testing";
import { createDatabase, type Database, isOutage, type Migration, probe } from "./index.ts";

interface Tables {
  notes: { title: string };
}

const migrations: Record<string, Migration> = {
  "001_notes": { up: (db) => db.schema.createTable("notes").addColumn("title", "text").execute() },
};

interface Running {
  readonly database: Database<Tables>;
  readonly readiness: Readiness;
}

async function start(t: TestContext, url: string, settings: Record<string, unknown> = {}): Promise<Running> {
  const readiness = createReadiness();
  const database = createDatabase<Tables>({
    config: databaseConfig({ url, probe_interval: "1h", ...settings }),
    schema: "failover",
    migrations,
    logger: createLogger({ name: "test", config: { level: "silent", format: "json" } }),
    readiness,
  });
  closeAfter(t, () => database.close());
  database.start();
  await database.ready(AbortSignal.timeout(20_000));
  return { database, readiness };
}

async function direct(url: string, ...statements: string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    for (const statement of statements) await client.query(statement);
  } finally {
    await client.end();
  }
}

const add = ({ db }: Pick<Database<Tables>, "db">, title: string) => db.insertInto("notes").values({ title }).execute();
/** Makes the pool open so many sessions. */
const holding = async ({ db }: Database<Tables>, sessions: number) => {
  await Promise.all(Array.from({ length: sessions }, () => sql`select pg_sleep(0.05)`.execute(db)));
};
const nameOf = (url: string) => new URL(url).pathname.slice(1);
/** The database that is there before and after the test's own. */
const adminUrl = (url: string) => new URL("/postgres", url).href;

test("sessions that turn read-only are an outage, and all of them are replaced when the server takes writes", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const { database, readiness } = await start(t, url);
  await holding(database, 5);
  await direct(
    adminUrl(url),
    `alter database ${nameOf(url)} set default_transaction_read_only = on`,
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${nameOf(url)}'`,
  );
  await until("the reason", () => /takes no writes/.test(readiness.state().components[0]?.reason ?? ""));
  await assert.rejects(add(database, "lost"), isOutage);
  assert.equal(await probe(database.db), false);
  await direct(adminUrl(url), `alter database ${nameOf(url)} reset default_transaction_read_only`);
  await database.ready(AbortSignal.timeout(20_000));
  await Promise.all(Array.from({ length: 10 }, (_, n) => add(database, `after ${n}`)));
  assert.equal(await probe(database.db), true);
});

test("one write that a read-only session refuses replaces all sessions that are as old", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const { database, readiness } = await start(t, url);
  await holding(database, 5);
  // As after a failover that kept the sessions: each is read-only for good, new ones are not.
  await Promise.all(
    Array.from({ length: 5 }, async () => {
      await sql`select set_config('default_transaction_read_only', 'on', false), pg_sleep(0.05)`.execute(database.db);
    }),
  );
  await assert.rejects(add(database, "refused"), isOutage);
  await until("the probe's verdict", () => readiness.state().ready);
  await database.ready(AbortSignal.timeout(20_000));
  for (let n = 0; n < 10; n++) await add(database, `note ${n}`);
});

test("a transaction that is read-only by choice refuses writes without an outage", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const { database, readiness } = await start(t, url);
  const changes: boolean[] = [];
  readiness.subscribe((state) => changes.push(state.ready));
  const attempt = database.db
    .transaction()
    .setAccessMode("read only")
    .execute(async (db) => await add({ db }, "never"));
  await assert.rejects(attempt, { code: "25006" });
  await add(database, "written");
  assert.deepEqual(changes, []);
});

test("a refused extra connection is no outage: work goes on with those that there are", async (t) => {
  const role = `test_${randomUUID().replaceAll("-", "")}`;
  let admin: string | undefined;
  // After the database has been dropped, which holds what the role owns.
  closeAfter(t, () => (admin === undefined ? undefined : direct(admin, `drop role if exists ${role}`)));
  const url = await postgresForTest(t);
  if (url === undefined) return;
  admin = adminUrl(url);
  await direct(url, `create role ${role} login`, `grant create on database ${nameOf(url)} to ${role}`);
  const own = new URL(url);
  own.username = role;
  const { database, readiness } = await start(t, own.href, { pool_size: 5, probe_interval: "20ms" });
  await direct(adminUrl(url), `alter role ${role} connection limit 2`);
  await holding(database, 2);
  const changes: boolean[] = [];
  readiness.subscribe((state) => changes.push(state.ready));
  await Promise.all(Array.from({ length: 20 }, (_, n) => add(database, `note ${n}`)));

  // Without a free connection within connect_timeout a query fails, as the database being busy.
  await database.db.transaction().execute(async (one) => {
    await database.db.transaction().execute(async (two) => {
      const refused = database.db.selectFrom("notes").selectAll().execute();
      await assert.rejects(refused, { code: "unavailable", reason: "DATABASE_TIMEOUT" });
      assert.equal(await probe(database.db), true);
      await add({ db: two }, "two");
    });
    await add({ db: one }, "one");
  });
  assert.deepEqual(changes, []);
});
