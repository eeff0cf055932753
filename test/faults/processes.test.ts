// Processes that are killed or paused at the worst moment.

import assert from "node:assert/strict";
import process from "node:process";
import { after, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { until } from "#shared/testing";
import { killPrograms } from "../support/service-process.ts";
import { assertDeliveredOnce, assertDeliveredOnceBut, assertOrderPerKey, delivered } from "./support/audit.ts";
import type { Shop } from "./support/shop.ts";
import { enterWorld } from "./support/world.ts";

after(killPrograms);

async function sellAll(shop: Shop, count: number, key?: string): Promise<void> {
  for (let n = 0; n < count; n++) await shop.sell(`${key ?? "sale"}-${n}`, key);
}

/** Everything is with the broker, and its relay has stopped: what is delivered from now on comes from the queue. */
async function relayAll(shop: Shop): Promise<void> {
  shop.outbox.start();
  await until("the outbox to be empty", async () => (await shop.outbox.state()).pending === 0);
  await shop.outbox.stop();
}

function nameIn(body: Buffer): string {
  return fromBinary(GreetedSchema, body).name;
}

const countsOf = (shop: Shop) => shop.bus.states().consumers[0]!.counts;

test("4: the relay is killed after the confirmation and before the delete: the next one publishes again, and each has one effect", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const shop = world.shop();
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  await sellAll(shop, 20, "k");
  const relay = world.worker({ relay: true, dieAt: "confirmed", after: 8 });
  assert.equal(await relay.exit, "SIGKILL", relay.stderr());
  await until("what was confirmed to be delivered", async () => (await delivered(shop.database.db)).length === 8);
  assert.equal((await shop.outbox.state()).pending, 20, "the outbox still has all");
  shop.outbox.start();
  await assertDeliveredOnce(shop.database.db, 20);
  await assertOrderPerKey(shop.database.db);
  await until("the copies", () => countsOf(shop).duplicates === 8);
  await until("the outbox to be empty", async () => (await shop.outbox.state()).pending === 0);
});

test("5: the service is killed between its commit and the nudge: the poll of another delivers", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const shop = world.shop();
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  const service = world.worker({
    relay: true,
    sell: { keys: ["k"], count: 10 },
    dieAt: "sale committed",
    after: 4,
  });
  assert.equal(await service.exit, "SIGKILL", service.stderr());
  await assertDeliveredOnce(shop.database.db, 4);
  await assertOrderPerKey(shop.database.db);
});

test("7: of two relays one is paused past its lease: when it goes on its write is refused, and the order is kept", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const shop = world.shop();
  const { db } = shop.database;
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  await sellAll(shop, 20, "k");
  const names = async () => (await delivered(db)).map(({ name }) => name);

  const paused = world.worker({ relay: true, pauseAt: "confirmed", pauseAfter: 5 }, { log: "warn" });
  await until("five to be delivered", async () => (await names()).length === 5, 30_000);
  const second = world.worker({ relay: true, pauseAt: "confirmed", pauseAfter: 10 }, { outbox: { leaseMs: 60_000 } });
  await until("the other to have got further", async () => (await names()).length === 10, 30_000);
  process.kill(paused.pid!, "SIGCONT");
  await paused.line(/a claim of the outbox is lost/);
  assert.equal((await shop.outbox.state()).pending, 20, "nothing was deleted");
  process.kill(second.pid!, "SIGCONT");
  await assertDeliveredOnce(db, 20);
  await assertOrderPerKey(db);
  await until("the outbox to be empty", async () => (await shop.outbox.state()).pending === 0);
});

test("9: the consumer is killed in a handler: what it had comes again, and each has one effect", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const shop = world.shop();
  const consumer = shop.deliver();
  await shop.start();
  await sellAll(shop, 30);
  await relayAll(shop);
  const killed = world.worker({ deliver: true, dieAt: "handling", after: 5 });
  assert.equal(await killed.exit, "SIGKILL", killed.stderr());
  const before = await delivered(shop.database.db);
  assert.ok(before.length < 5, `${before.length} effects of the handlers that ended`);
  await consumer.start();
  await assertDeliveredOnce(shop.database.db, 30);
  // The server may still have committed what the process sent right before its end.
  const { handled } = countsOf(shop);
  assert.ok(handled > 25 && handled <= 30 - before.length, `${handled} handled after ${before.length}`);
});

test("10: the consumer is killed between commit and acknowledgement: the handler is not called again, and the message is gone", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const shop = world.shop();
  const handled: string[] = [];
  const consumer = shop.deliver((name) => void handled.push(name));
  await shop.start();
  await sellAll(shop, 30);
  await relayAll(shop);
  const killed = world.worker({ deliver: true, dieAt: "effect committed" });
  assert.equal(await killed.exit, "SIGKILL", killed.stderr());
  const before = (await delivered(shop.database.db)).map(({ name }) => name);
  assert.ok(before.length > 0);
  await until("all to be in the queue again", async () => (await world.count()) === 30);
  await consumer.start();
  await assertDeliveredOnce(shop.database.db, 30);
  await until("the copies", () => countsOf(shop).duplicates === before.length);
  assert.deepEqual(
    handled.filter((name) => before.includes(name)),
    [],
    "handled again",
  );
  await consumer.close();
  await until("the queue to be empty", async () => (await world.count()) === 0);
});

test("14: a handler that kills its process each time: after the delivery limit the message is dead, and the others are handled", async (t) => {
  const world = await enterWorld(t, { delivery_limit: 3 });
  if (world === undefined) return;
  const shop = world.shop();
  const consumer = shop.deliver();
  await shop.start();
  await sellAll(shop, 10);
  await shop.sell("poison");
  for (let n = 10; n < 20; n++) await shop.sell(`sale-${n}`);
  await relayAll(shop);
  const isDead = async () => (await world.count(`${world.queue}.dead`)) > 0;
  let deaths = 0;
  for (let starts = 1; !(await isDead()); starts++) {
    assert.ok(starts < 10);
    const service = world.worker({ deliver: true, dieOf: "poison" });
    void service.exit.then(() => deaths++);
    await until("its death, or the dead letter", async () => deaths === starts || (await isDead()), 30_000);
  }
  await consumer.start();
  await assertDeliveredOnceBut(shop.database.db, ["poison"], 21);
  await until("as many deaths as the limit", () => deaths === 3);
  const letters = await world.takeDeadLetters();
  assert.deepEqual(
    letters.map(({ body, headers }) => [nameIn(body as Buffer), headers?.["x-dead-letter-reason"]]),
    [["poison", "delivery_limit"]],
  );
});

test("22: the consumer is killed when a failed message is put aside and not acknowledged: both copies come, with one effect", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const shop = world.shop();
  const consumer = shop.deliver();
  await shop.start();
  await sellAll(shop, 5);
  await relayAll(shop);
  const killed = world.worker({ deliver: true, failures: 1, dieAt: "retry published" });
  assert.equal(await killed.exit, "SIGKILL", killed.stderr());
  assert.deepEqual(await delivered(shop.database.db), []);
  await until("the copies beside the originals", async () => (await world.count()) > 5);
  await until("none to be put aside", async () => (await world.count(`${world.queue}.retry.100ms`)) === 0);
  const copies = (await world.count()) - 5;
  await consumer.start();
  await assertDeliveredOnce(shop.database.db, 5);
  // At least: a broker counts what it has just moved from one queue to the other a little later.
  await until("the copies", () => countsOf(shop).duplicates >= copies);
  await until("all to be taken", async () => (await world.count()) === 0);
  assert.equal(countsOf(shop).handled, 5);
});
