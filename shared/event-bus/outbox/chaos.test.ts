import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { isOutage } from "#shared/database";
import { databaseForTest, postgresForTest, seededRandom, until } from "#shared/testing";
import { busUnavailable, refused } from "../errors.ts";
import { outboxMigration } from "./migration.ts";
import { greet, hurryRetries, isEmpty, nameOf, type OutboxDatabase, outboxOn, scriptedBus } from "./test-support.ts";

const SECONDS = Number(process.env["OUTBOX_CHAOS_SECONDS"] ?? 5);

test("sessions that are killed, refusals, outages and slow transactions cost no event and no key's order", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const seed = Number(process.env["SEED"] ?? Date.now() % 100_000);
  t.diagnostic(`seed ${seed}`);
  const random = seededRandom(seed);
  const database: OutboxDatabase = await databaseForTest(t, {
    migrations: { "001_outbox": outboxMigration },
    url,
    settings: { pool_size: 20 },
  });
  const accepted = new Map<string, string[]>();
  let quiet = false;
  const bus = scriptedBus(async (envelope) => {
    await delay(random() * 5);
    if (!quiet && random() < 0.03) throw refused("full");
    if (!quiet && random() < 0.002) throw busUnavailable("away");
    accepted.set(envelope.key, [...(accepted.get(envelope.key) ?? []), nameOf(envelope)]);
  });
  const outboxes = [1, 2].map(() => outboxOn(t, database, bus, { batchSize: 20 }));
  hurryRetries(t, database);
  for (const outbox of outboxes) outbox.start();

  const killer = new pg.Client({ connectionString: url });
  killer.on("error", () => {});
  await killer.connect();
  t.after(() => killer.end());
  const committed = new Map<string, string[]>();
  const uncertain = new Set<string>();
  const end = performance.now() + SECONDS * 1_000;
  let count = 0;

  async function write(key: string): Promise<void> {
    while (performance.now() < end) {
      const name = `n${count++}`;
      try {
        await database.db.transaction().execute(async (tx) => {
          await greet(outboxes[0]!, tx, name, { key });
          if (random() < 0.05) await delay(random() * 1_500);
        });
        committed.set(key, [...(committed.get(key) ?? []), name]);
      } catch (error) {
        assert.ok(isOutage(error), String(error));
        uncertain.add(name);
        await delay(50);
      }
    }
  }
  async function kill(): Promise<void> {
    while (performance.now() < end) {
      await delay(100 + random() * 300);
      await killer.query(`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
        order by random() limit 1`);
    }
  }
  await Promise.all([kill(), ...Array.from({ length: 12 }, (_, n) => write(`key ${n}`))]);
  quiet = true;
  await until("the outbox to be empty", isEmpty(outboxes[0]!), 60_000);
  for (const [key, names] of committed) {
    const first = [...new Set(accepted.get(key))].filter((name) => !uncertain.has(name));
    assert.deepEqual(first, names, key);
  }
  t.diagnostic(`${count} events, ${bus.sent.length} sent, ${uncertain.size} uncertain`);
});
