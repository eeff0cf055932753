// Transactions that end otherwise than hoped, and a database that is away.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { sql, type Transaction } from "kysely";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { startTcpProxy, until } from "#shared/testing";
import { assertDeliveredOnce, assertOrderPerKey, delivered } from "./support/audit.ts";
import type { Shop, Tables } from "./support/shop.ts";
import { enterWorld } from "./support/world.ts";

/** A sale in a transaction of the test's. */
async function sellIn(tx: Transaction<Tables>, { outbox }: Shop, name: string, key: string): Promise<void> {
  await tx.insertInto("sales").values({ name }).execute();
  await outbox.add(tx, GreetedSchema, { name, message: "" }, { key });
}

test("6: what is rolled back is not published, and what is committed is", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const published: string[] = [];
  const shop = world.shop({ onConfirmed: () => void published.push("") });
  const { db } = shop.database;
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  const changedMind = new Error("no sale");
  for (let n = 0; n < 30; n += 3) {
    await shop.sell(`k-${n}`, "k");
    const rolledBack = db.transaction().execute(async (tx) => {
      await sellIn(tx, shop, `k-${n + 1}`, "k");
      throw changedMind;
    });
    await assert.rejects(rolledBack, changedMind);
    // Not by us, but by the database, at a statement after the event's.
    const failed = db.transaction().execute(async (tx) => {
      await sellIn(tx, shop, `k-${n + 2}`, "k");
      await sql`insert into sales (name) values (${`k-${n}`})`.execute(tx);
    });
    await assert.rejects(failed, { code: "23505" });
  }
  await shop.sell("k-30", "k");
  // One key: what had been there before the last would have gone out before it.
  await assertDeliveredOnce(db, 11);
  await assertOrderPerKey(db);
  assert.equal(published.length, 11);
  await until("the outbox to be empty", async () => (await shop.outbox.state()).pending === 0);
});

test("8: an event that a slow transaction put in before the others is delivered after them", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const shop = world.shop();
  const { db } = shop.database;
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const { promise: lowId, resolve: tell } = Promise.withResolvers<bigint>();
  const idIn = async (tx: Pick<Transaction<Tables>, "getExecutor">) =>
    (await sql<{ id: bigint }>`select min(id) as id from outbox`.execute(tx)).rows[0]!.id;
  // One key, so that they are in one shard.
  const slow = db.transaction().execute(async (tx) => {
    await sellIn(tx, shop, "k-0", "k");
    tell(await idIn(tx));
    await gate;
  });
  const low = await lowId;
  for (let n = 1; n <= 3; n++) await shop.sell(`k-${n}`, "k");
  assert.ok((await idIn(db)) > low);
  shop.outbox.start();
  await until("the quick to be delivered", async () => (await delivered(db)).length === 3);
  await until("their rows to be gone", async () => (await shop.outbox.state()).pending === 0);
  open();
  await slow;
  await assertDeliveredOnce(db, 4);
  assert.equal((await delivered(db)).at(-1)?.name, "k-0");
});

for (const [how, away, back] of [
  ["refuses connections", "refuse", "accept"],
  ["has fallen silent", "stall", "resume"],
] as const) {
  test(`24: a database that ${how}: nothing is acknowledged without a commit, no attempt is spent, and all goes on`, async (t) => {
    let selling = true;
    t.after(() => {
      selling = false;
    });
    const world = await enterWorld(t, {}, ["50ms", "100ms"]);
    if (world === undefined) return;
    const target = new URL(world.databaseUrl);
    const proxy = await startTcpProxy({ host: target.hostname, port: Number(target.port || 5432) });
    t.after(() => proxy.close());
    const behind = new URL(world.databaseUrl);
    behind.hostname = "127.0.0.1";
    behind.port = String(proxy.port);
    const database = { url: behind.href, connect_timeout: "300ms", statement_timeout: "500ms" };
    // The other only sells, and its database stays.
    const shop = world.shop({ database });
    const other = world.shop();
    const attempts: number[] = [];
    const consumer = shop.deliver(async (_, { attempt, tx }) => {
      attempts.push(attempt);
      // Some are in the middle of a transaction when it goes.
      await sql`select pg_sleep(0.005)`.execute(tx);
    });
    await shop.start();
    await other.start();
    await consumer.start();
    for (const { outbox } of [shop, other]) outbox.start();

    const sell = async (from: Shop, key: string) => {
      for (let n = 0; selling; n++) {
        // What fails here may have been committed all the same: its row says whether.
        await from.sell(`${key}-${n}`, key).catch(() => delay(20));
        await delay(5);
      }
    };
    const sales = [sell(shop, "a"), sell(shop, "b"), sell(other, "c"), sell(other, "d")];
    const effects = async () => (await delivered(other.database.db)).length;
    const isThere = () => shop.readiness.state().components.find(({ name }) => name === "database")?.ready;
    for (let outage = 0; outage < 2; outage++) {
      const before = await effects();
      await until("some effects", async () => (await effects()) > before + 30);
      proxy[away]();
      await until("the outage to be noticed", () => isThere() === false);
      const during = await effects();
      // Longer than all the delays between attempts.
      await delay(1_000);
      assert.equal(await effects(), during, "no effects");
      assert.ok(shop.bus.states().consumers[0]!.waiting > 0, "messages wait");
      proxy[back]();
    }
    selling = false;
    await Promise.all(sales);
    const { length: sold } = await other.database.db.selectFrom("sales").select("name").execute();
    await assertDeliveredOnce(other.database.db, sold);
    await assertOrderPerKey(other.database.db);
    assert.deepEqual([...new Set(attempts)], [1]);
    const { retried, deadLettered } = shop.bus.states().consumers[0]!.counts;
    assert.deepEqual({ retried, deadLettered }, { retried: 0, deadLettered: 0 });
    assert.equal(await world.count(`${world.queue}.dead`), 0);
    await until("the outbox to be empty", async () => (await other.outbox.state()).pending === 0);
  });
}
