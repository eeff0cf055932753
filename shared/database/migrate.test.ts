import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { sql } from "kysely";
import pg from "pg";
import { pino } from "pino";
import { createReadiness } from "#shared/lifecycle";
import { closeAfter, databaseConfig, embeddedForTest, postgresForTest, until } from "#shared/testing";
import { createDatabase, type Database, type Migration } from "./index.ts";

interface Tables {
  runs: { name: string };
}

/** Adds a row, so that running twice shows. */
const record = (name: string): Migration => ({
  up: (db) => sql`insert into runs values (${name})`.execute(db).then(() => {}),
});
const first: Migration = {
  up: (db) => sql`create table runs (name text)`.execute(db).then(() => record("first").up(db)),
};
const faulty: Migration = { up: (db) => sql`select * from no_such_table`.execute(db).then(() => {}) };

interface Started {
  readonly database: Database<Tables>;
  readonly readiness: ReturnType<typeof createReadiness>;
  readonly logs: Record<string, unknown>[];
}

const engines: Record<string, (t: TestContext) => Promise<string | undefined>> = {
  PGlite: async () => "pglite:memory",
  PostgreSQL: postgresForTest,
};

async function start(
  t: TestContext,
  url: string,
  schema: string,
  migrations: Record<string, Migration>,
  settings: Record<string, unknown> = {},
): Promise<Started> {
  const logs: Record<string, unknown>[] = [];
  const readiness = createReadiness();
  const database = createDatabase<Tables>({
    config: databaseConfig({ url, ...settings }),
    schema,
    migrations,
    logger: pino({ level: "info" }, { write: (line: string) => logs.push(JSON.parse(line)) }),
    readiness,
    ...(url === "pglite:memory" && { embedded: await embeddedForTest() }),
  });
  closeAfter(t, () => database.close());
  database.start();
  return { database, readiness, logs };
}

const runs = async ({ database }: Started) => {
  await database.ready(AbortSignal.timeout(20_000));
  return (await database.db.selectFrom("runs").select("name").execute()).map((row) => row.name);
};

/** Resolves when the readiness is as the check wants it. */
function becomes(readiness: Started["readiness"], check: (reason: string | undefined) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (!check(readiness.state().components[0]?.reason)) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = readiness.subscribe(look);
    look();
  });
}

for (const [engine, urlFor] of Object.entries(engines)) {
  describe(engine, () => {
    test("replicas and services that start at once on an empty database all come up, each migration run once", async (t) => {
      const url = await urlFor(t);
      if (url === undefined) return;
      const migrations = { "001_first": first, "002_second": record("second") };
      const schemas = ["at_once_a", "at_once_a", "at_once_a", "at_once_b", "at_once_b", "at_once_c"];
      const all = await Promise.all(schemas.map((schema) => start(t, url, schema, migrations)));
      for (const one of all) {
        assert.deepEqual(await runs(one), ["first", "second"]);
        assert.ok(
          one.logs.every((line) => line["level"] === 30),
          JSON.stringify(one.logs),
        );
      }
    });

    test("what is new runs at the next start, what ran does not", async (t) => {
      const url = await urlFor(t);
      if (url === undefined) return;
      const one = await start(t, url, "grows", { "001_first": first });
      assert.deepEqual(await runs(one), ["first"]);
      await one.database.close();
      const two = await start(t, url, "grows", { "001_first": first, "002_second": record("second") });
      assert.deepEqual(await runs(two), ["first", "second"]);
      assert.deepEqual(two.logs.find((line) => line["msg"] === "database migrated")?.["migrations"], ["002_second"]);
    });

    test("a version from before the last migration still starts, and says that the database is ahead", async (t) => {
      const url = await urlFor(t);
      if (url === undefined) return;
      await runs(await start(t, url, "ahead", { "001_first": first, "002_second": record("second") }));
      const older = await start(t, url, "ahead", { "001_first": first });
      assert.deepEqual(await runs(older), ["first", "second"]);
      assert.ok(older.logs.some((line) => line["level"] === 40 && String(line["migrations"]) === "002_second"));
    });

    test("a faulty migration is loud, leaves nothing, keeps the database unavailable, and is tried again", async (t) => {
      const url = await urlFor(t);
      if (url === undefined) return;
      let second = faulty;
      let attempts = 0;
      const broken = await start(t, url, "mended", {
        "001_first": first,
        "002_second": {
          up(db) {
            attempts++;
            return second.up(db);
          },
        },
      });
      await becomes(broken.readiness, (reason) => reason?.includes("migration 002_second of mended failed") === true);
      await until("three attempts", () => attempts >= 3);
      assert.equal(broken.logs.filter((line) => line["level"] === 50).length, 1);
      await assert.rejects(broken.database.db.selectFrom("runs").selectAll().execute(), {
        code: "unavailable",
        reason: "DATABASE_UNAVAILABLE",
      });
      second = record("second");
      // Run anew and not from the middle: the first was rolled back with the second.
      assert.deepEqual(await runs(broken), ["first", "second"]);
      assert.equal(broken.readiness.state().ready, true);
    });
  });
}

test("a replica waits for the one that migrates", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  const { promise: underWay, resolve: begun } = Promise.withResolvers<void>();
  const slow: Migration = {
    async up(db) {
      await first.up(db);
      begun();
      await mayEnd;
    },
  };
  const one = await start(t, url, "waits", { "001_first": slow });
  await underWay;
  const two = await start(t, url, "waits", { "001_first": first });
  await becomes(two.readiness, isWaiting);
  end();
  assert.deepEqual([await runs(one), await runs(two)], [["first"], ["first"]]);
});

test("a migration waits for one of an older version, which holds the lock by its session", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const older = new pg.Client({ connectionString: url, application_name: "older" });
  await older.connect();
  try {
    await older.query("select pg_advisory_lock(4907163254111)");
    const one = await start(t, url, "older", { "001_first": first });
    await becomes(one.readiness, (reason) => /another migration .* by .*\(older, idle\)/.test(reason ?? ""));
    await older.query("select pg_advisory_unlock_all()");
    assert.deepEqual(await runs(one), ["first"]);
  } finally {
    await older.end();
  }
});

test("migrations run at migration_url, in the database of url", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const migrationUrl = new URL(url);
  migrationUrl.searchParams.set("options", "-c meridian.role=migrator");
  const who: Migration = {
    up: (db) =>
      sql`create table runs as select current_setting('meridian.role', true) as name`.execute(db).then(() => {}),
  };
  const one = await start(t, url, "elsewhere", { "001_who": who }, { migration_url: migrationUrl.href });
  assert.deepEqual(await runs(one), ["migrator"]);
});

test("closing ends a wait for the migrations' lock, and a start that has only begun", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const { promise: never, resolve: end } = Promise.withResolvers<void>();
  const { promise: underWay, resolve: begun } = Promise.withResolvers<void>();
  const stuck: Migration = {
    up() {
      begun();
      return never;
    },
  };
  await start(t, url, "stuck", { "001_stuck": stuck });
  await underWay;
  const waits = await start(t, url, "stuck", { "001_stuck": stuck });
  await becomes(waits.readiness, isWaiting);
  const begins = await start(t, url, "stuck", { "001_stuck": stuck });
  for (const { database } of [waits, begins]) {
    await database.close();
    await assert.rejects(database.ready(), { reason: "DATABASE_UNAVAILABLE" });
  }
  end();
});

test("a migration that waits for a lock says for whose, and does not hold up the running version", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const old = await start(t, url, "queue", { "001_first": first });
  assert.deepEqual(await runs(old), ["first"]);
  const reader = new pg.Client({ connectionString: url, application_name: "report" });
  const bystander = new pg.Client({ connectionString: url, application_name: "bystander" });
  await Promise.all([reader.connect(), bystander.connect()]);
  try {
    // Older than the reader's, with a lock on another table.
    await bystander.query("begin");
    await bystander.query("select from queue.kysely_migration");
    await reader.query("begin");
    await reader.query("select from queue.runs");
    const alter: Migration = { up: (db) => sql`alter table runs add column note text`.execute(db).then(() => {}) };
    const fresh = await start(t, url, "queue", { "001_first": first, "002_note": alter });
    const holder = /wait for a lock, which may be held by .*the session with pid \d+ \(report, idle in transaction\)/;
    await becomes(fresh.readiness, (reason) => holder.test(reason ?? ""));
    assert.ok(fresh.logs.some((line) => line["level"] === 40 && holder.test(String(line["reason"]))));
    // Long enough for further attempts.
    const untilMs = performance.now() + 3_000;
    let slowest = 0;
    while (performance.now() < untilMs) {
      const begun = performance.now();
      assert.deepEqual(await runs(old), ["first"]);
      slowest = Math.max(slowest, performance.now() - begun);
    }
    assert.ok(slowest < 3_000, `a query of the running version took ${slowest} ms`);
    await reader.query("commit");
    assert.deepEqual(await runs(fresh), ["first"]);
  } finally {
    await Promise.all([reader.end(), bystander.end()]);
  }
});

const isWaiting = (reason: string | undefined) => /another migration .* by the session with pid \d+/.test(reason ?? "");
