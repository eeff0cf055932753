// Order per key, whatever happens on the way.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { until } from "#shared/testing";
import { killPrograms } from "../support/service-process.ts";
import { assertDeliveredOnce, assertOrderPerKey, delivered } from "./support/audit.ts";
import { enterWorld } from "./support/world.ts";

after(killPrograms);

test("25: three relays, and a queue so short that the broker refuses now and then: each key's order holds, and nothing is lost", async (t) => {
  const world = await enterWorld(t, { max_length: 20, prefetch: 10, concurrency: 4 });
  if (world === undefined) return;
  const shop = world.shop();
  const { db } = shop.database;
  // Slower than three that sell.
  const consumer = shop.deliver(() => delay(2));
  await shop.start();
  await consumer.start();
  const relays = [0, 1, 2].map((n) =>
    world.worker(
      { relay: true, sell: { keys: [`a${n}`, `b${n}`, `c${n}`, `d${n}`], count: 50 } },
      { log: "warn", outbox: { leaseMs: 500, batchSize: 50 } },
    ),
  );
  await Promise.all(relays.map((relay) => relay.line(/^sold/)));
  await assertDeliveredOnce(db, 600, 120_000);
  await assertOrderPerKey(db);
  for (const relay of relays) {
    const nacks = relay.stdout.filter((line) => line.includes("EVENT_REFUSED"));
    assert.ok(nacks.length > 0, "each relay was refused");
  }
  await until("the outbox to be empty", async () => (await shop.outbox.state()).pending === 0);
});

for (const signal of ["SIGTERM", "SIGKILL"] as const) {
  test(`a single active consumer that gets ${signal} under load hands over to the next in each key's order`, async (t) => {
    let selling = true;
    t.after(() => {
      selling = false;
    });
    const world = await enterWorld(t, { single_active_consumer: true, concurrency: 4, prefetch: 50 });
    if (world === undefined) return;
    const shop = world.shop();
    const { db } = shop.database;
    // The queue is there.
    shop.deliver();
    await shop.start();
    shop.outbox.start();
    const effects = async () => (await delivered(db)).length;
    const replicas = [];
    for (let n = 0; n < 4; n++) {
      const replica = world.worker({ deliver: true, handlerMs: 5 });
      await replica.line(/^consuming/);
      replicas.push(replica);
    }
    let sold = 0;
    const sales = ["a", "b", "c", "d", "e"].map(async (key) => {
      for (let n = 0; selling; n++, sold++) await shop.sell(`${key}-${n}`, key);
    });
    for (const replica of replicas.slice(0, 3)) {
      // The first of those that are left is the one that is active.
      const before = await effects();
      await until("effects", async () => (await effects()) > before + 50);
      assert.equal(await replica.end(signal), signal === "SIGTERM" ? 0 : signal);
    }
    selling = false;
    await Promise.all(sales);
    await assertDeliveredOnce(db, sold);
    await assertOrderPerKey(db);
  });
}
