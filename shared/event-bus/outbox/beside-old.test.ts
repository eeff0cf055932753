import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { sql } from "kysely";
import { v7 as createEventId } from "uuid";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createDatabase } from "#shared/database";
import { createReadiness } from "#shared/lifecycle";
import { databaseConfig, databaseForTest, postgresForTest, silent, until } from "#shared/testing";
import { refused } from "../errors.ts";
import { outboxMigration, outboxUpgrade } from "./migration.ts";
import { shardOf } from "./shard.ts";
import { firstOutboxMigration, startFirstRelay } from "./test-support/first-version.ts";
import { greet, isEmpty, nameOf, type OutboxDatabase, outboxOn, scriptedBus } from "./test-support.ts";

const upgraded = { "001_outbox": firstOutboxMigration, "002_outbox_upgrade": outboxUpgrade };

/** Adds an event as the first version does. */
async function greetAsFirst({ db }: OutboxDatabase, name: string, key: string): Promise<void> {
  const body = Buffer.from(toBinary(GreetedSchema, create(GreetedSchema, { name })));
  await sql`
    insert into outbox (shard, key, event_id, type, source, time, routing_key, must_be_routed, content_type, body, context)
    values (${shardOf(key)}, ${key}, ${createEventId()}, ${GreetedSchema.typeName}, 'test', ${new Date()},
      'testing.greeted', true, 'application/protobuf', ${body}, '')`.execute(db);
}

test("relays and writers of the first version beside new ones lose nothing, and keep each key's order", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const database: OutboxDatabase = await databaseForTest(t, { migrations: upgraded, url });
  const accepted = new Map<string, string[]>();
  let calls = 0;
  const bus = scriptedBus(async (envelope) => {
    await delay(1);
    if (++calls % 9 === 0) throw refused("full");
    accepted.set(envelope.key, [...(accepted.get(envelope.key) ?? []), nameOf(envelope)]);
  });
  const expected = new Map<string, string[]>();
  const outboxes = [outboxOn(t, database, bus, { batchSize: 10 }), outboxOn(t, database, bus, { batchSize: 10 })];
  const add = async (n: number) => {
    const key = `key${n % 8}`;
    if (n % 2 === 0) await greetAsFirst(database, `n${n}`, key);
    else await greet(outboxes[0]!, database.db, `n${n}`, { key });
    expected.set(key, [...(expected.get(key) ?? []), `n${n}`]);
  };
  let first = startFirstRelay(database.db, bus);
  t.after(() => first.stop());
  const hurry = setInterval(() => {
    sql`update outbox set not_before = now() where not_before > now()`.execute(database.db).catch(() => {});
  }, 25);
  t.after(() => clearInterval(hurry));
  for (let n = 0; n < 100; n++) await add(n);
  await until("the first version to have published some", () => bus.sent.length > 20);
  for (const outbox of outboxes) outbox.start();
  for (let n = 100; n < 300; n++) await add(n);
  // Rolled forward, and back.
  await first.stop();
  for (let n = 300; n < 400; n++) await add(n);
  first = startFirstRelay(database.db, bus);
  for (let n = 400; n < 500; n++) await add(n);
  for (const outbox of outboxes) await outbox.stop();
  for (let n = 500; n < 600; n++) await add(n);
  await until("the outbox to be empty", isEmpty(outboxes[0]!), 30_000);
  // At least once: the first version's claim may still see what a new relay has just taken out.
  for (const [key, names] of expected) assert.deepEqual([...new Set(accepted.get(key))], names, key);
});

test("what the first version has postponed is moved aside when its relays have been gone for a day", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const database: OutboxDatabase = await databaseForTest(t, { migrations: upgraded, url });
  await greetAsFirst(database, "1", "k");
  await greetAsFirst(database, "2", "k");
  await greetAsFirst(database, "3", "other");
  await sql`
    update outbox set not_before = now() + interval '2 seconds', attempts = 3, last_error = 'EVENT_REFUSED'
    where id = (select min(id) from outbox)`.execute(database.db);
  const bus = scriptedBus();
  const outbox = outboxOn(t, database, bus);
  outbox.start();
  await until("them to be moved", async () => (await outbox.list({ state: "behind" })).length === 1);
  const [moved] = await outbox.list({ state: "failed" });
  assert.deepEqual([moved?.attempts, moved?.lastError], [3, "EVENT_REFUSED"]);
  await until("the outbox to be empty", isEmpty(outbox));
  assert.deepEqual(bus.names(), ["3", "1", "2"]);
});

test("new tables and upgraded ones are the same, and an upgrade of new ones does nothing", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const describeTables = async (migrations: Parameters<typeof databaseForTest>[1]["migrations"]) => {
    const database: OutboxDatabase = await databaseForTest(t, { migrations, url });
    const { rows } = await sql<{ line: string }>`
      select format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable,
        replace(coalesce(column_default, ''), current_schema() || '.', '')) as line
      from information_schema.columns where table_schema = current_schema() and table_name like 'outbox%'
      union all select replace(indexdef, current_schema() || '.', '') from pg_indexes
      where schemaname = current_schema() and tablename like 'outbox%'
      order by line`.execute(database.db);
    return rows.map(({ line }) => line);
  };
  const fresh = await describeTables({ "001_outbox": outboxMigration });
  assert.ok(fresh.some((line) => line.startsWith("outbox_shards.first_id")));
  assert.deepEqual(await describeTables(upgraded), fresh);
  assert.deepEqual(await describeTables({ "001_outbox": outboxMigration, "002_upgrade": outboxUpgrade }), fresh);
});

test("a service on the first version's tables is not ready, and says which migration is missing", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const readiness = createReadiness();
  const database = createDatabase<Record<never, never>>({
    config: databaseConfig({ url }),
    schema: "service",
    migrations: { "001_outbox": firstOutboxMigration },
    logger: silent,
    readiness,
  });
  t.after(() => database.close());
  outboxOn(t, database, scriptedBus());
  database.start();
  const reason = () => readiness.state().components.find(({ name }) => name === "database")?.reason ?? "";
  await until("the reason", () => /outboxUpgrade/.test(reason()));
  assert.match(reason(), /outbox_shards\.first_id/);
});
