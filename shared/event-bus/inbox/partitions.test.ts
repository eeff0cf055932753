import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { type CompiledQuery, sql } from "kysely";
import { type Database, schemaOf, tableOf } from "#shared/database";
import { databaseForTest, pgbouncerForTest, postgresForTest, recordLog, silent, until, within } from "#shared/testing";
import { createInbox } from "./inbox.ts";
import { inboxKey } from "./key.ts";
import { inboxMigration } from "./migration.ts";
import { readLayout, statementsFor } from "./partitions.ts";
import { tendPartitions } from "./upkeep.ts";

type Tables = Record<never, never>;

const HOUR_MS = 60 * 60_000;
const migrations = { "001_inbox": inboxMigration };
const engines = ["PGlite", "PostgreSQL", "PostgreSQL behind PgBouncer"] as const;

async function open(t: TestContext, engine: (typeof engines)[number]): Promise<Database<Tables> | undefined> {
  if (engine === "PGlite") return databaseForTest<Tables>(t, { migrations });
  const url = engine === "PostgreSQL" ? await postgresForTest(t) : (await pgbouncerForTest(t))?.url;
  return url === undefined ? undefined : databaseForTest<Tables>(t, { migrations, url });
}

const inboxOn = ({ db }: Database<Tables>, windowMs = HOUR_MS) =>
  createInbox<Tables>({ db, logger: silent, windowMs, batchSize: 1_000 });
const messages = (...ids: string[]) => ids.map((id) => ({ id, source: "shop" }));
const kinds = (results: readonly { kind: string }[]) => results.map(({ kind }) => kind);
const nothing = async () => {};

const layout = async ({ db }: Database<Tables>) => {
  const { rows } = await sql<{ first: number; last: number; overlapping: boolean }>`
    select first, last, overlapping from ${tableOf(db, "inbox_partitions")}`.execute(db);
  const { first, last, overlapping } = rows[0]!;
  return `${first}-${last}${overlapping ? " overlapping" : ""}`;
};
const tables = async ({ db }: Database<Tables>) => {
  const { rows } = await sql<{ name: string }>`
    select relname::text as name from pg_inherits join pg_class on pg_class.oid = inhrelid
    where inhparent = ${`${schemaOf(db)}.inbox_events`}::text::regclass order by 1`.execute(db);
  return rows.map(({ name }) => name);
};
const step = ({ db }: Database<Tables>) => tendPartitions(db, HOUR_MS);

/** Makes the opening times of all partitions earlier. */
async function age({ db }: Database<Tables>, ms: number): Promise<void> {
  await sql`
    update ${tableOf(db, "inbox_partitions")}
    set opened_at = array(select at - ${ms}::float8 * interval '1 millisecond' from unnest(opened_at) as at)`.execute(
    db,
  );
}

/** A handler that runs until the test ends it. */
function gate() {
  const [begun, end] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  return {
    begun: begun.promise,
    end: end.resolve,
    async work() {
      begun.resolve();
      await end.promise;
    },
  };
}

for (const engine of engines) {
  test(`a copy is recognised in every step from one partition to the next, until its partition has expired (${engine})`, async (t) => {
    const database = await open(t, engine);
    if (database === undefined) return;
    const inbox = inboxOn(database);
    const seen: string[] = [];
    const expectKnown = async () => {
      for (const id of seen) assert.deepEqual(kinds(await inbox.run("q", messages(id), nothing)), ["duplicate"]);
      assert.deepEqual(
        kinds(await inbox.run("q", messages(...seen), nothing)),
        seen.map(() => "duplicate"),
      );
    };
    const layouts: string[] = [];
    for (let n = 0; n < 8; n++) {
      await expectKnown();
      const id = `${n}`;
      const results = kinds(await inbox.run("q", messages(id, ...seen, id), nothing));
      assert.deepEqual(results, ["done", ...seen.map(() => "duplicate"), "duplicate"]);
      seen.push(id);
      layouts.push(await layout(database));
      if (n % 2 === 0) await age(database, HOUR_MS / 4);
      await step(database);
    }
    assert.deepEqual(layouts, [
      "1-1",
      "1-2 overlapping",
      "1-2",
      "1-3 overlapping",
      "1-3",
      "1-4 overlapping",
      "1-4",
      "1-5 overlapping",
    ]);
    await age(database, HOUR_MS / 4);
    // Of the first partition alone: event 0. Event 1 went to the second as well.
    await step(database);
    assert.equal(await layout(database), "2-6 overlapping");
    assert.deepEqual(kinds(await inbox.run("q", messages("0", ...seen.slice(1)), nothing)), [
      "done",
      ...Array(7).fill("duplicate"),
    ]);
    await step(database);
    assert.deepEqual(
      await tables(database),
      [2, 3, 4, 5, 6].map((n) => `inbox_events_${n}`),
    );
  });
}

test("keys go to both partitions until each transaction that writes to the old one alone has ended", async (t) => {
  const database = await open(t, "PostgreSQL");
  if (database === undefined) return;
  const [inbox, other] = [inboxOn(database), inboxOn(database)];
  const before = gate();
  const running = inbox.run("q", messages("a"), before.work);
  await before.begun;
  await age(database, HOUR_MS / 4);
  await step(database);
  assert.equal(await layout(database), "1-2 overlapping");

  // A copy that comes after the step waits for the one that began before it.
  let calls = 0;
  const copy = other.run("q", messages("a"), async () => {
    calls++;
  });
  const both = gate();
  const writesBoth = other.run("q", messages("b"), both.work);
  await both.begun;
  for (let i = 0; i < 3; i++) await step(database);
  assert.equal(await layout(database), "1-2 overlapping");

  before.end();
  assert.deepEqual([...kinds(await running), ...kinds(await copy)], ["done", "duplicate"]);
  assert.equal(calls, 0);
  // What writes to both does not hold it up, and excludes copies after the step.
  await step(database);
  assert.equal(await layout(database), "1-2");
  const late = inbox.run("q", messages("b"), nothing);
  await delay(50);
  both.end();
  assert.deepEqual([...kinds(await writesBoth), ...kinds(await late)], ["done", "duplicate"]);
});

test("a step between the statements of a transaction does not make an event that it has just stored a copy", async (t) => {
  const database = await open(t, "PostgreSQL");
  if (database === undefined) return;
  const inbox = inboxOn(database);
  await inbox.run("q", messages("known"), nothing);
  const { db } = database;
  const [known, fresh] = [inboxKey("q", "shop", "known"), randomUUID()];
  const { record } = statementsFor(schemaOf(db), await readLayout(db));
  const recorded = await db.transaction().execute((tx) => {
    const stepping = new Proxy(tx.getExecutor(), {
      get(executor, name) {
        if (name !== "executeQuery") return Reflect.get(executor, name);
        return async (query: CompiledQuery) => {
          if (!query.sql.includes("insert into")) {
            await age(database, HOUR_MS / 4);
            await step(database);
          }
          return executor.executeQuery(query);
        };
      },
    });
    return record({ getExecutor: () => stepping }, [known, fresh]);
  });
  assert.deepEqual(recorded, new Set([fresh]));
});

test("a copy is handled when the one that it waited for fails, in any step", async (t) => {
  const database = await open(t, "PostgreSQL");
  if (database === undefined) return;
  const inbox = inboxOn(database);
  for (let round = 0; round < 4; round++) {
    const first = gate();
    const failing = inbox.run("q", messages(`${round}`), async () => {
      await first.work();
      throw new Error("no");
    });
    await first.begun;
    if (round % 2 === 0) await age(database, HOUR_MS / 4);
    await step(database);
    const copy = inbox.run("q", messages(`${round}`), nothing);
    await delay(20);
    first.end();
    assert.deepEqual([...kinds(await failing), ...kinds(await copy)], ["failed", "done"]);
    await step(database);
  }
});

for (const engine of ["PostgreSQL", "PostgreSQL behind PgBouncer"] as const) {
  test(`copies that come at the same moment have one effect while partitions come and go (${engine})`, async (t) => {
    const database = await open(t, engine);
    if (database === undefined) return;
    // Two replicas with short windows, both of which look after the partitions.
    const windowMs = 2_000;
    const replicas = [inboxOn(database, windowMs), inboxOn(database, windowMs)];
    t.after(() => Promise.all(replicas.map((inbox) => inbox.stop())));
    for (const inbox of replicas) inbox.start();
    const effects = new Map<string, number>();
    const until = performance.now() + 4_000;
    let rounds = 0;
    for (; performance.now() < until; rounds++) {
      const ids = Array.from({ length: 5 }, () => randomUUID());
      const work = async ({ id }: { id: string }) => {
        effects.set(id, (effects.get(id) ?? 0) + 1);
      };
      const runs = [...replicas, ...replicas].map((inbox, n) =>
        inbox.run("q", messages(...(n % 2 === 0 ? ids : ids.toReversed())), work),
      );
      const results = (await Promise.all(runs)).flatMap(kinds);
      assert.deepEqual(results.sort(), [...Array(5).fill("done"), ...Array(15).fill("duplicate")]);
    }
    assert.deepEqual(new Set(effects.values()), new Set([1]));
    assert.equal(effects.size, rounds * 5);
    const { first } = /^(?<first>\d+)-/.exec(await layout(database))!.groups as { first: string };
    assert.ok(Number(first) > 2, `partitions have come and gone: ${first}`);
  });
}

test("dropping a partition waits for no one, and no one waits for it", async (t) => {
  const database = await open(t, "PostgreSQL");
  if (database === undefined) return;
  const inbox = inboxOn(database);
  await inbox.run("q", messages("a"), nothing);
  for (let n = 0; n < 2; n++) {
    await age(database, HOUR_MS / 4);
    await step(database);
    await step(database);
  }
  assert.equal(await layout(database), "1-3");
  const reader = gate();
  const running = inbox.run("q", messages("b"), reader.work);
  await reader.begun;
  await age(database, HOUR_MS);
  for (let n = 0; n < 4; n++) await within(step(database), "a step", 2_000);
  assert.ok((await tables(database)).includes("inbox_events_1"));
  assert.deepEqual(kinds(await within(inbox.run("q", messages("c"), nothing), "another handler", 2_000)), ["done"]);
  reader.end();
  await running;
  await step(database);
  assert.ok(!(await tables(database)).includes("inbox_events_1"));
});

test("a replica that has handled nothing for long finds partitions that others have dropped and made", async (t) => {
  const database = await open(t, "PostgreSQL");
  if (database === undefined) return;
  const [idle, busy] = [inboxOn(database), inboxOn(database)];
  await idle.run("q", messages("a"), nothing);
  for (let n = 0; n < 6; n++) {
    await age(database, HOUR_MS / 2);
    await step(database);
    await step(database);
  }
  assert.ok(!(await tables(database)).includes("inbox_events_1"));
  assert.deepEqual(kinds(await busy.run("q", messages("b"), nothing)), ["done"]);
  assert.deepEqual(kinds(await idle.run("q", messages("b", "c"), nothing)), ["duplicate", "done"]);
});

test("upkeep opens and drops partitions by itself, and deletes no row", async (t) => {
  const database = await open(t, "PostgreSQL");
  if (database === undefined) return;
  const inbox = inboxOn(database, 400);
  await inbox.run("q", messages("a"), nothing);
  t.after(() => inbox.stop());
  inbox.start();
  await until("the first partition to be dropped", async () => !(await tables(database)).includes("inbox_events_1"));
  await inbox.stop();
  assert.deepEqual(kinds(await inbox.run("q", messages("a"), nothing)), ["done"]);
  const { rows } = await sql<{ deleted: number }>`
    select coalesce(sum(n_tup_del), 0)::int4 as deleted from pg_stat_user_tables
    where schemaname = current_schema() and relname like 'inbox_events%'`.execute(database.db);
  assert.equal(rows[0]?.deleted, 0);
});

test("events are handled while partitions cannot be made, and one line says so", async (t) => {
  const database = await open(t, "PostgreSQL");
  if (database === undefined) return;
  const { db } = database;
  const log = recordLog();
  const inbox = createInbox<Tables>({ db, logger: log.logger, windowMs: 400 });
  t.after(() => inbox.stop());
  await sql`create table inbox_events_2 ()`.execute(db);
  inbox.start();
  await log.line({ level: "warn", msg: "partitions of the inbox cannot be made or dropped, retrying" });
  await delay(100);
  assert.equal(log.lines.length, 1);
  assert.deepEqual(kinds(await inbox.run("q", messages("a", "a"), nothing)), ["done", "duplicate"]);
  await sql`drop table inbox_events_2`.execute(db);
  await until("the second partition", async () => (await tables(database)).includes("inbox_events_2"));
});

test("an event takes at most 100 bytes with its index", async (t) => {
  const database = await open(t, "PostgreSQL");
  if (database === undefined) return;
  const inbox = inboxOn(database);
  const EVENTS = 120_000;
  for (let n = 0; n < EVENTS; n += 2_000) {
    await inbox.run("q", messages(...Array.from({ length: 2_000 }, (_, i) => `${n + i}`)), nothing);
    if (n % 20_000 !== 18_000) continue;
    const { rows } = await sql<{ bytes: number; events: number }>`
      select
        (select sum(pg_total_relation_size(inhrelid))::int4 from pg_inherits where inhparent = 'inbox_events'::regclass)
          + pg_total_relation_size('inbox_events')::int4 + pg_total_relation_size('inbox_partitions')::int4 as bytes,
        (select count(*)::int4 from inbox_events) as events`.execute(database.db);
    const { bytes, events } = rows[0]!;
    assert.equal(events, n + 2_000);
    assert.ok(bytes / events <= 100, `${bytes / events} bytes an event after ${events}`);
    t.diagnostic(`${(bytes / events).toFixed(1)} bytes an event after ${events}`);
  }
});
