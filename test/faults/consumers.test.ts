// Consumers that are killed, cut off from the broker or the database, or replaced by another version.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { GreetedSchema, RegisteredSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createEventBus, rabbitmqSection } from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { silent, startTcpProxy, until } from "#shared/testing";
import { killPrograms } from "../support/service-process.ts";
import { assertDeliveredOnce, assertDeliveredOnceBut, assertOrderPerKey, delivered } from "./support/audit.ts";
import type { Shop } from "./support/shop.ts";
import { enterWorld, type World } from "./support/world.ts";

after(killPrograms);

const countsOf = ({ bus }: Shop) => bus.states().consumers[0]!.counts;

const numbered = (key: string, count: number) => Array.from({ length: count }, (_, n) => `${key}-${n}`);

/** Sells, and relays all of it to the queue, which has no consumer yet. */
async function fill(world: World, names: readonly string[], key?: string): Promise<Shop> {
  const shop = world.shop();
  shop.deliver();
  await shop.start();
  for (const name of names) await shop.sell(name, key);
  shop.outbox.start();
  await until("an empty outbox", async () => (await shop.outbox.state()).pending === 0);
  await shop.outbox.stop();
  return shop;
}

/** Starts a consumer's process again and again, until it lives for long enough to handle all that can be. */
async function restartUntil(world: World, dieOf: readonly string[], isDone: () => Promise<boolean>): Promise<number> {
  for (let deaths = 0; ; deaths++) {
    assert.ok(deaths < 20, "it dies again and again");
    const worker = world.worker({ deliver: true, dieOf });
    const done = until("the others to be handled", isDone, 60_000).then(() => true);
    if (await Promise.race([worker.exit.then(() => false), done])) {
      await worker.end("SIGKILL");
      return deaths;
    }
    // Until its last transaction has ended on the server.
    if (await isDone()) return deaths + 1;
  }
}

for (const single of [true, false]) {
  const mode = single ? "with a single active consumer" : "without a single active consumer";
  test(`35: ${mode}, messages that end their process are dead letters, each for itself, and the others are handled`, async (t) => {
    const world = await enterWorld(t, {
      delivery_limit: 3,
      single_active_consumer: single,
      topology_check_interval: "500ms",
    });
    if (world === undefined) return;
    const names = numbered("sale", 30);
    const shop = await fill(world, ["poison", ...names.slice(0, 15), "venom", ...names.slice(15)]);
    const { db } = shop.database;
    const isDone = async () => (await delivered(db)).length === 30 && (await world.count(`${world.queue}.dead`)) === 2;
    await restartUntil(world, ["poison", "venom"], async () => {
      if (!(await isDone())) return false;
      // A dead letter of the broker is put back soon.
      await delay(2_000);
      return isDone();
    });
    const letters = await world.takeDeadLetters();
    assert.deepEqual(
      letters.map(({ headers }) => headers?.["x-dead-letter-reason"]),
      ["delivery_limit", "delivery_limit"],
    );
    await assertDeliveredOnceBut(db, ["poison", "venom"], 32);
  });
}

test("35: what the broker makes a dead letter although no handler failed on it is put back", async (t) => {
  const world = await enterWorld(t, { delivery_limit: 1, topology_check_interval: "500ms" });
  if (world === undefined) return;
  const shop = await fill(world, numbered("sale", 20));
  for (let kills = 0; kills < 2; kills++) {
    const worker = world.worker({ deliver: true, dieAt: "handling" });
    assert.equal(await worker.exit, "SIGKILL", worker.stderr());
  }
  await until("dead letters of the broker", async () => (await world.count(`${world.queue}.dead`)) > 0);
  const repaired = world.shop();
  const consumer = repaired.deliver();
  await repaired.start();
  await consumer.start();
  await assertDeliveredOnce(shop.database.db, 20);
  assert.ok(countsOf(repaired).putBack > 0);
  assert.equal(await world.count(`${world.queue}.dead`), 0);
});

test("36: the order of a key survives kills of its one consumer, and lost connections", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const shop = await fill(world, numbered("k", 12), "k");
  const { db } = shop.database;
  for (let kills = 0; kills < 4; kills++) {
    const worker = world.worker({ deliver: true, handlerMs: 20_000 });
    await worker.line(/^consuming/);
    await delay(200);
    await worker.end("SIGKILL");
  }
  const { hostname, port } = new URL(world.url);
  const proxy = await startTcpProxy({ host: hostname, port: Number(port || 5672) });
  t.after(() => proxy.close());
  const url = new URL(world.url);
  url.host = `127.0.0.1:${proxy.port}`;
  const cutOff = world.shop({ rabbitmq: { ...world.rabbitmq, url: url.href } });
  const consumer = cutOff.deliver(() => delay(50));
  await cutOff.start();
  await consumer.start();
  for (let cuts = 1; cuts <= 3; cuts++) {
    await until("effects", async () => (await delivered(db)).length >= cuts * 2);
    proxy.cut();
  }
  await assertDeliveredOnce(db, 12);
  await assertOrderPerKey(db);
});

test("28: an event whose type an old version does not know reaches the new one, though the old one ignores unknown types", async (t) => {
  const world = await enterWorld(t, {}, ["100ms", "100ms", "100ms", "100ms", "100ms", "100ms", "100ms", "100ms"]);
  if (world === undefined) return;
  world.alsoDelete(`${world.queue}.types`);
  const config = rabbitmqSection.parse({ ...world.rabbitmq, routing_key: "testing.#", ignore_unknown: true });
  const replica = () => {
    const bus = createEventBus({ config, source: "test", logger: silent, readiness: createReadiness() });
    t.after(() => bus.close());
    return bus;
  };
  const old = replica();
  const oldConsumer = old.consume({ events: [GreetedSchema], handlers: { "testing.v1.Greeted": () => {} } });
  await old.start();
  await oldConsumer.start();
  const registered = { userId: "0197f0c4-8a2b-7c3d-9e4f-2f1d0c9e4b00", username: "ada" };
  // No version handles it yet.
  await old.publish(RegisteredSchema, registered);
  await until("it to be ignored", () => old.states().consumers[0]?.counts.ignored === 1);

  let handled = 0;
  const fresh = replica();
  const freshConsumer = fresh.consume({
    events: [GreetedSchema, RegisteredSchema],
    handlers: {
      "testing.v1.Greeted": () => {},
      "testing.v1.Registered": () => {
        handled++;
      },
    },
  });
  await fresh.start();
  await freshConsumer.start();
  for (let n = 0; n < 100; n++) await old.publish(RegisteredSchema, registered);
  const dead = () => [old, fresh].reduce((sum, bus) => sum + (bus.states().consumers[0]?.counts.deadLettered ?? 0), 0);
  await until("each to be handled, or a dead letter", () => handled + dead() === 100);
  assert.equal(old.states().consumers[0]?.counts.ignored, 1);
  assert.ok(handled >= 95, `${handled} of 100 handled`);
});

test("24: during an outage of the database, messages go back to the broker, and come again when it answers", async (t) => {
  const world = await enterWorld(t, { consumer_timeout: "2s", handler_timeout: "500ms" });
  if (world === undefined) return;
  const shop = await fill(world, numbered("sale", 20));
  const { hostname, port } = new URL(world.databaseUrl);
  const proxy = await startTcpProxy({ host: hostname, port: Number(port || 5432) });
  t.after(() => proxy.close());
  const url = new URL(world.databaseUrl);
  url.host = `127.0.0.1:${proxy.port}`;
  const settings = { probe_interval: "200ms", connect_timeout: "500ms", statement_timeout: "1s" };
  const cutOff = world.shop({ database: { url: url.href, ...settings } });
  let handled = 0;
  const consumer = cutOff.deliver(async () => {
    if (++handled === 5) proxy.refuse();
    await delay(1);
  });
  await cutOff.start();
  await consumer.start();
  await until("the messages to be back", async () => {
    const [state] = cutOff.bus.states().consumers;
    return state?.state === "waiting" && state.counts.givenBack > 0;
  });
  await until("them in the queue", async () => (await world.count()) >= 15);
  proxy.accept();
  await assertDeliveredOnce(shop.database.db, 20);
  assert.equal(countsOf(cutOff).retried, 0);
});
