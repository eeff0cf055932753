import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { sql } from "kysely";
import pg from "pg";
import { closeAfter, databaseForTest, pgbouncerForTest, postgresForTest } from "#shared/testing";
import { limitsOf, schemaOf } from "./index.ts";
import { sessionSettings } from "./session-settings.ts";

const limits = { statementTimeoutMs: 5_000, idleInTransactionTimeoutMs: 60_000 };

test("a URL without settings stays as it is, to the letter", () => {
  const url = "postgres://u:p%40%20@h/d?sslmode=require&host=/run/p%67";
  assert.equal(sessionSettings(limits, url, "book").url, url);
});

test("settings of the URL are merged, whatever their form, and quoted for both ways", () => {
  const options = "-c work_mem=8MB --log-min-messages=error -cDateStyle=ISO,\\ DMY";
  const url = `postgres://u@h/d?statement_timeout=9s&options=${encodeURIComponent(options)}&sslmode=require`;
  const settings = sessionSettings(limits, url, "book");
  assert.equal(settings.url, "postgres://u@h/d?sslmode=require");
  assert.match(settings.startup, /-c statement_timeout=5000 .*-c statement_timeout=9s .*-c search_path=book,public/);
  assert.ok(settings.startup.includes(options));
  for (const call of [
    "set_config('work_mem', '8MB', true)",
    "set_config('log_min_messages', 'error', true)",
    "set_config('DateStyle', 'ISO, DMY', true)",
    "set_config('statement_timeout', '9s', true)",
  ]) {
    assert.ok(settings.local.includes(call), call);
  }
});

test("limits are those that count after the merge, in milliseconds", () => {
  const limitsAt = (parameters: string) => sessionSettings(limits, `postgres://h/d?${parameters}`, "book").limits;
  assert.deepEqual(limitsAt(""), limits);
  assert.deepEqual(limitsAt("statement_timeout=20000&idle_in_transaction_session_timeout=2min"), {
    statementTimeoutMs: 20_000,
    idleInTransactionTimeoutMs: 120_000,
  });
  const options = encodeURIComponent("-c statement_timeout=1.5s --idle-in-transaction-session-timeout=0");
  assert.deepEqual(limitsAt(`statement_timeout=9s&options=${options}`), {
    statementTimeoutMs: 1_500,
    idleInTransactionTimeoutMs: Number.POSITIVE_INFINITY,
  });
});

test("a statement may take as long as the URL says, and handlers too", async (t) => {
  const base = await postgresForTest(t);
  if (base === undefined) return;
  const url = new URL(base);
  url.searchParams.set("statement_timeout", "20000");
  url.searchParams.set("idle_in_transaction_session_timeout", "30s");
  const settings = { statement_timeout: "100ms", connect_timeout: "500ms" };
  const { db } = await databaseForTest<unknown>(t, { migrations: {}, url: url.href, settings });
  await sql`select pg_sleep(1)`.execute(db);
  assert.deepEqual(limitsOf(db), { statementTimeoutMs: 20_000, idleInTransactionTimeoutMs: 30_000, poolSize: 10 });
});

type Where = Record<string, (t: TestContext) => Promise<string | undefined>>;
const everywhere: Where = {
  PostgreSQL: postgresForTest,
  "a PgBouncer that refuses them": async (t) => (await pgbouncerForTest(t))?.url,
  "a PgBouncer that drops them": async (t) =>
    (await pgbouncerForTest(t, { settings: ["ignore_startup_parameters = options"] }))?.url,
};

for (const [where, urlOf] of Object.entries(everywhere)) {
  test(`at ${where}, transactions have the settings of this module and of the URL`, async (t) => {
    const base = await urlOf(t);
    if (base === undefined) return;
    const url = new URL(base);
    url.searchParams.set("options", "-c work_mem=8MB -c search_path=elsewhere");
    url.searchParams.set("lock_timeout", "7s");
    const { db } = await databaseForTest<unknown>(t, { migrations: {}, url: url.href });
    const names = ["jit", "work_mem", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"];
    const row = await db.transaction().execute(async (tx) => {
      const columns = [...names, "search_path"].map((name) => sql`current_setting(${sql.lit(name)})`);
      return (await sql<{ all: string[] }>`select array[${sql.join(columns)}] as all`.execute(tx)).rows[0];
    });
    assert.deepEqual(row?.all, ["off", "8MB", "7s", "5s", "1min", `${schemaOf(db)},public`]);
  });
}

test("through PgBouncer nothing of a session is left to the next client of the server connection", async (t) => {
  const pgbouncer = await pgbouncerForTest(t, { settings: ["default_pool_size = 1"] });
  if (pgbouncer === undefined) return;
  const migration = { up: () => Promise.resolve() };
  const { db } = await databaseForTest<unknown>(t, { migrations: { "001_none": migration }, url: pgbouncer.url });
  await db.transaction().execute((tx) => sql`select 1`.execute(tx));
  const client = new pg.Client({ connectionString: pgbouncer.url });
  await client.connect();
  closeAfter(t, () => client.end());
  const { rows } = await client.query(`
    select current_setting('search_path') as search_path, current_setting('statement_timeout') as statement_timeout,
      (select count(*)::int from pg_locks l join pg_database d on d.oid = l.database
        where locktype = 'advisory' and datname = current_database()) as locks`);
  assert.deepEqual(rows, [{ search_path: '"$user", public', statement_timeout: "0", locks: 0 }]);
});
