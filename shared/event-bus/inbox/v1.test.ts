// Replicas of the first version beside those of the present one, on tables as commit 9a5edc5 makes them.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { type TestContext, test } from "node:test";
import { type Kysely, sql, type Transaction } from "kysely";
import type { Database, Migration } from "#shared/database";
import { databaseForTest, postgresForTest, silent, until } from "#shared/testing";
import { createInbox } from "./inbox.ts";
import { inboxMigration, inboxRetireV1, inboxUpgrade } from "./migration.ts";

interface Tables {
  effects: { event_id: string };
}

const v1Migration: Migration = {
  async up(db) {
    await sql`
      create table inbox (
        queue text not null,
        event_id text not null,
        handled_at timestamptz not null default now(),
        primary key (queue, event_id)
      )`.execute(db);
    await sql`create index inbox_handled_at_idx on inbox (handled_at)`.execute(db);
  },
};
const effectsMigration: Migration = {
  async up(db) {
    await db.schema.createTable("effects").addColumn("event_id", "text").execute();
  },
};
const migrations = { "001_inbox": v1Migration, "002_effects": effectsMigration, "003_inbox": inboxUpgrade };

async function open(t: TestContext, more: Record<string, Migration> = {}): Promise<Database<Tables> | undefined> {
  const url = await postgresForTest(t);
  return url === undefined ? undefined : databaseForTest<Tables>(t, { migrations: { ...migrations, ...more }, url });
}

const messages = (...ids: string[]) => ids.map((id) => ({ id, source: "shop" }));
const kinds = (results: readonly { kind: string }[]) => results.map(({ kind }) => kind);
const effect = async ({ id }: { id: string }, { tx }: { tx: Transaction<Tables> }) => {
  await tx.insertInto("effects").values({ event_id: id }).execute();
};
const inboxOn = ({ db }: { db: Kysely<Tables> }) => createInbox<Tables>({ db, logger: silent });

/** What a replica of the first version does with a batch. */
async function runV1({ db }: Database<Tables>, queue: string, batch: readonly { id: string }[], work: typeof effect) {
  return db.transaction().execute(async (tx) => {
    const ids = [...new Set(batch.map(({ id }) => id))].sort();
    const { rows } = await sql<{ event_id: string }>`
      insert into inbox (queue, event_id)
      select ${queue}, id from unnest(${ids}::text[]) with ordinality as ids (id, place) order by place
      on conflict do nothing
      returning event_id`.execute(tx);
    const fresh = new Set(rows.map((row) => row.event_id));
    const results: string[] = [];
    for (const message of batch) {
      if (fresh.delete(message.id)) {
        await work(message, { tx });
        results.push("done");
      } else results.push("duplicate");
    }
    return results;
  });
}

test("what one version has handled, the other does not handle again", async (t) => {
  const database = await open(t);
  if (database === undefined) return;
  const inbox = inboxOn(database);
  const [a, b, c] = [randomUUID(), randomUUID(), randomUUID()];
  assert.deepEqual(await runV1(database, "q", messages(a), effect), ["done"]);
  assert.deepEqual(kinds(await inbox.run("q", messages(a, b), effect)), ["duplicate", "done"]);
  assert.deepEqual(await runV1(database, "q", messages(a, b, c), effect), ["duplicate", "duplicate", "done"]);
  assert.deepEqual(kinds(await inbox.run("q", messages(a, b, c), effect)), Array(3).fill("duplicate"));
  assert.deepEqual(kinds(await inbox.run("other", messages(a), effect)), ["done"]);
});

test("an event of another source is not taken for one that this version has handled, nor for one with a short id", async (t) => {
  const database = await open(t);
  if (database === undefined) return;
  const inbox = inboxOn(database);
  const id = randomUUID();
  const of = (source: string, id: string) => ({ source, id });
  assert.deepEqual(kinds(await inbox.run("q", [of("crm", id), of("billing", id)], effect)), ["done", "done"]);
  assert.deepEqual(kinds(await inbox.run("q", [of("crm", id), of("billing", id)], effect)), ["duplicate", "duplicate"]);
  assert.deepEqual(await runV1(database, "q", [of("crm", "1")], effect), ["done"]);
  assert.deepEqual(kinds(await inbox.run("q", [of("billing", "1"), of("billing", "1")], effect)), [
    "done",
    "duplicate",
  ]);
});

test("copies that come to both versions at the same moment have one effect", async (t) => {
  const database = await open(t);
  if (database === undefined) return;
  const inbox = inboxOn(database);
  const rounds = 30;
  for (let round = 0; round < rounds; round++) {
    const batch = messages(...Array.from({ length: 20 }, () => randomUUID()));
    const runs: string[][] = await Promise.all([
      runV1(database, "q", batch, effect),
      inbox.run("q", batch.toReversed(), effect).then(kinds),
      runV1(database, "q", batch.toReversed(), effect),
      inbox.run("q", batch, effect).then(kinds),
    ]);
    assert.equal(runs.flat().filter((kind) => kind === "done").length, 20, JSON.stringify(runs));
  }
  const { rows } = await sql<{ all: number; distinct: number }>`
    select count(*)::int4 as all, count(distinct event_id)::int4 as distinct from effects`.execute(database.db);
  assert.deepEqual(rows, [{ all: rounds * 20, distinct: rounds * 20 }]);
});

test("what did not get its turn in a transaction, or failed, is new for both versions", async (t) => {
  const database = await open(t);
  if (database === undefined) return;
  const inbox = createInbox<Tables>({ db: database.db, logger: silent, batchTimeMs: 0 });
  const batch = messages(randomUUID(), randomUUID(), randomUUID());
  const stored: (number | undefined)[] = [];
  const results = await inbox.run("q", batch, async (message, extra) => {
    await effect(message, extra);
    const { rows } = await sql<{ ids: number }>`select count(*)::int4 as ids from inbox`.execute(extra.tx);
    stored.push(rows[0]?.ids);
    if (message === batch[2]) throw new Error("no");
  });
  assert.deepEqual(kinds(results), ["done", "done", "failed"]);
  assert.deepEqual(stored, [3, 2, 3]);
  assert.deepEqual(await runV1(database, "q", batch, effect), ["duplicate", "duplicate", "done"]);
});

test("the upgrade does not wait for a transaction of the first version that handles events", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const old = { "001_inbox": v1Migration, "002_effects": effectsMigration };
  const database = await databaseForTest<Tables>(t, { migrations: old, url });
  const id = randomUUID();
  await runV1(database, "q", messages(id), async () => {
    await database.db.transaction().execute(async (tx) => {
      await sql`set local lock_timeout = '200ms'`.execute(tx);
      await inboxUpgrade.up(tx);
    });
  });
  assert.deepEqual(kinds(await inboxOn(database).run("q", messages(id, randomUUID()), effect)), ["duplicate", "done"]);
});

test("the first version's table can be dropped while replicas run", async (t) => {
  const database = await open(t);
  if (database === undefined) return;
  const inbox = inboxOn(database);
  const ids = Array.from({ length: 20 }, () => randomUUID());
  assert.deepEqual(kinds(await inbox.run("q", messages(...ids), effect)), Array(20).fill("done"));
  await inboxRetireV1.up(database.db);
  const again = await inbox.run("q", messages(...ids, randomUUID()), effect);
  assert.deepEqual(kinds(again), [...Array(20).fill("duplicate"), "done"]);
});

test("the first version's table is retired beside a handler that runs for long, and dropped after it", async (t) => {
  const database = await open(t);
  if (database === undefined) return;
  const inbox = createInbox<Tables>({ db: database.db, logger: silent, windowMs: 60_000 });
  t.after(() => inbox.stop());
  const retire = () =>
    database.db.transaction().execute(async (tx) => {
      await sql`set local lock_timeout = '200ms'`.execute(tx);
      await inboxRetireV1.up(tx);
    });
  const hasTable = async () => {
    const { rows } = await sql<{ found: boolean }>`select to_regclass('inbox') is not null as found`.execute(
      database.db,
    );
    return rows[0]?.found;
  };
  const [long, next] = [randomUUID(), randomUUID()];
  await inbox.run("q", messages(long), async () => {
    await retire();
    assert.deepEqual(kinds(await inboxOn(database).run("q", messages(next), effect)), ["done"]);
    assert.deepEqual(kinds(await inbox.run("q", messages(next), effect)), ["duplicate"]);
    assert.equal(await hasTable(), true);
  });
  inbox.start();
  await until("the table to be dropped", async () => (await hasTable()) === false);
  assert.deepEqual(kinds(await inboxOn(database).run("q", messages(long), effect)), ["duplicate"]);
});

test("ids of the first version's table are deleted once they are older than the window", async (t) => {
  const database = await open(t);
  if (database === undefined) return;
  const [old, own, young] = [randomUUID(), randomUUID(), randomUUID()];
  await runV1(database, "q", messages(old, young), effect);
  await inboxOn(database).run("q", messages(own), effect);
  await sql`update inbox set handled_at = now() - interval '2 hours' where event_id <> ${young}`.execute(database.db);
  const inbox = createInbox<Tables>({ db: database.db, logger: silent, windowMs: 60 * 60_000 });
  t.after(() => inbox.stop());
  inbox.start();
  await until("the old ids to be gone", async () => {
    const { rows } = await sql<{ id: string }>`
      select event_id as id from inbox union all select event_id from inbox_v1_known`.execute(database.db);
    return rows.length === 1 && rows[0]?.id === young;
  });
});

test("the upgrade changes nothing on tables that are up to date, and comes to the same tables on old ones", async (t) => {
  const [fresh, old] = [await postgresForTest(t), await postgresForTest(t)];
  if (fresh === undefined || old === undefined) return;
  const tablesOf = async ({ db }: Database<Tables>) => {
    const { rows } = await sql<{ column: string }>`
      select relname || '.' || attname || ' ' || format_type(atttypid, atttypmod) as column
      from pg_attribute join pg_class on pg_class.oid = attrelid
      where relnamespace = current_schema()::regnamespace and relname like 'inbox%' and attnum > 0
      order by relname, attnum`.execute(db);
    return rows.map(({ column }) => column);
  };
  const upgrades = { "003_inbox": inboxUpgrade, "004_inbox": inboxRetireV1 };
  const onFresh = await databaseForTest<Tables>(t, { migrations: { "001_inbox": inboxMigration }, url: fresh });
  const once = await tablesOf(onFresh);
  await inboxUpgrade.up(onFresh.db);
  await inboxUpgrade.up(onFresh.db);
  assert.deepEqual(await tablesOf(onFresh), once);
  const onOld = await databaseForTest<Tables>(t, { migrations: { "001_inbox": v1Migration, ...upgrades }, url: old });
  assert.deepEqual(await tablesOf(onOld), once);
});

test("a service whose tables are those of the first version is not ready, and says which migration it needs", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const database = await databaseForTest<Tables>(t, { migrations: { "001_inbox": v1Migration }, url });
  const inbox = inboxOn(database);
  await until("the database to be refused", async () =>
    database
      .ready(AbortSignal.timeout(10))
      .then(() => false)
      .catch(() => true),
  );
  const [result] = await inbox.run("q", messages("1"), effect);
  assert.equal(result?.kind, "unavailable");
  assert.match(
    String(((result as { error: Error }).error.cause as Error).message),
    /add inboxUpgrade to the migrations/,
  );
});
