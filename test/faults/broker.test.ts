// What may befall the broker itself: a private one, which is killed and starved here.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { Connection } from "rabbitmq-client";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createEventBus, rabbitmqSection } from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { postgresForTest, silent, until, within } from "#shared/testing";
import { privateBrokerForTest } from "../support/private-broker.ts";
import { assertDeliveredOnce, assertOrderPerKey } from "./support/audit.ts";
import { createShop } from "./support/shop.ts";

// Names are new for each test: a quorum queue that is deleted and made again may not survive a kill of RabbitMQ 3.10.
let names = 0;

async function worldOf(t: TestContext) {
  const databaseUrl = await postgresForTest(t);
  const broker = await privateBrokerForTest(t);
  if (databaseUrl === undefined || broker === undefined) return undefined;
  const queue = `queue${++names}`;
  const rabbitmq = {
    url: broker.url,
    exchange: `exchange${names}`,
    queue,
    heartbeat: "2s",
    publish_timeout: "3s",
    retry: { delays: ["100ms"] },
  };
  return { broker, rabbitmq, queue, databaseUrl };
}

test("1: of what is published while the broker is killed, every confirmed event is there", async (t) => {
  const world = await worldOf(t);
  if (world === undefined) return;
  const { broker, rabbitmq, queue } = world;
  const config = rabbitmqSection.parse(rabbitmq);
  const bus = createEventBus({ config, source: "shop", logger: silent, readiness: createReadiness() });
  t.after(() => bus.close());
  bus.consume({ events: [GreetedSchema], handlers: { "testing.v1.Greeted": () => {} } });
  await bus.start();
  await broker.settled();
  const attempted = new Set<string>();
  const confirmed = new Set<string>();
  let stopped = false;
  const publish = async (from: string) => {
    for (let n = 0; !stopped; n++) {
      const name = `${from}-${n}`;
      attempted.add(name);
      await bus.publish(GreetedSchema, { name, message: "" }).then(
        () => confirmed.add(name),
        () => {},
      );
    }
  };
  const publishing = Promise.all(Array.from({ length: 20 }, (_, n) => publish(`p${n}`)));
  for (let kill = 0; kill < 2; kill++) {
    const before = confirmed.size;
    await until("many confirmations", () => confirmed.size > before + 500, 60_000);
    await broker.kill();
    await broker.start();
  }
  const before = confirmed.size;
  await until("confirmations again", () => confirmed.size > before, 60_000);
  stopped = true;
  await within(publishing, "the publishers", 30_000);

  const present = new Set<string>();
  const rabbit = new Connection({ url: broker.url });
  rabbit.on("error", () => {});
  t.after(() => rabbit.unsafeDestroy());
  const { messageCount } = await rabbit.queueDeclare({ queue, passive: true });
  const { promise: all, resolve } = Promise.withResolvers<void>();
  let left = messageCount;
  rabbit.createConsumer({ queue, noAck: true, queueOptions: { queue, passive: true } }, ({ body }) => {
    present.add(fromBinary(GreetedSchema, body as Buffer).name);
    if (--left === 0) resolve();
  });
  await within(all, "all messages", 60_000);
  assert.deepEqual(
    [...confirmed].filter((name) => !present.has(name)),
    [],
    "lost",
  );
  assert.deepEqual(
    [...present].filter((name) => !attempted.has(name)),
    [],
    "unexpected",
  );
});

test("1: a shop whose broker is killed over and over delivers each sale once, in the order of its key", async (t) => {
  const world = await worldOf(t);
  if (world === undefined) return;
  const { broker, rabbitmq, databaseUrl } = world;
  const shop = createShop({ rabbitmq, database: { url: databaseUrl }, outbox: { leaseMs: 2_000 } });
  t.after(() => shop.stop());
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  await broker.settled();
  shop.outbox.start();
  let sold = 0;
  for (let kill = 0; kill < 2; kill++) {
    for (let n = 0; n < 300; n++, sold++) await shop.sell(`k${sold % 7}-${sold}`, `k${sold % 7}`);
    await broker.kill();
    for (let n = 0; n < 300; n++, sold++) await shop.sell(`k${sold % 7}-${sold}`, `k${sold % 7}`);
    await broker.start();
  }
  await assertDeliveredOnce(shop.database.db, sold, 90_000);
  await assertOrderPerKey(shop.database.db);
});

test("15: under a memory alarm consumers drain, publishing fails in time, the outbox grows, and all is delivered after it", async (t) => {
  const world = await worldOf(t);
  if (world === undefined) return;
  const { broker, rabbitmq, databaseUrl } = world;
  const shop = createShop({ rabbitmq, database: { url: databaseUrl }, outbox: { leaseMs: 2_000 } });
  t.after(() => shop.stop());
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const consumer = shop.deliver(() => gate);
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  for (let n = 0; n < 50; n++) await shop.sell(`a-${n}`, "a");
  await until("an empty outbox", async () => (await shop.outbox.state()).pending === 0);

  await broker.ctl("set_vm_memory_high_watermark", "0.00001");
  // The broker tells a publisher that it is blocked when it publishes.
  const publishing = shop.bus.publish(GreetedSchema, { name: "direct", message: "" });
  await within(assert.rejects(publishing, { reason: "EVENT_BUS_UNAVAILABLE" }), "a publish to fail");
  await until("the connection to be blocked", () =>
    shop.bus.states().connections.some(({ name, state }) => name === "publish" && state === "blocked"),
  );
  for (let n = 50; n < 100; n++) await shop.sell(`a-${n}`, "a");
  open();
  await until("what was in the queue to be delivered", async () => {
    const { length } = await shop.database.db.selectFrom("effects").select("name").execute();
    return length >= 50;
  });
  assert.equal((await shop.outbox.state()).pending, 50);
  assert.equal((await shop.outbox.state()).failed, 0, "no attempt is spent");

  await broker.ctl("set_vm_memory_high_watermark", "0.6");
  await until("an empty outbox", async () => (await shop.outbox.state()).pending === 0, 60_000);
  await until("all effects", async () => {
    const rows = await shop.database.db.selectFrom("effects").select("name").where("name", "!=", "direct").execute();
    return rows.length === 100;
  });
  // Whoever is told that it was not confirmed in time may find it there all the same.
  await shop.database.db.insertInto("sales").values({ name: "direct" }).execute();
  const { length } = await shop.database.db.selectFrom("effects").select("name").where("name", "=", "direct").execute();
  if (length === 0) await shop.database.db.deleteFrom("sales").where("name", "=", "direct").execute();
  await assertDeliveredOnce(shop.database.db, 100 + length);
});

test("an event that is larger than the broker takes holds back its own key, and no other", async (t) => {
  const world = await worldOf(t);
  if (world === undefined) return;
  const { broker, rabbitmq, databaseUrl } = world;
  // RabbitMQ 4 reads its configuration once, into a persistent term.
  await broker.ctl(
    "eval",
    "application:set_env(rabbit, max_message_size, 20000), persistent_term:put(max_message_size, 20000).",
  );
  const shop = createShop({ rabbitmq, database: { url: databaseUrl }, outbox: { leaseMs: 2_000 } });
  t.after(() => shop.stop());
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  const { db } = shop.database;
  const large = { name: "large", message: "x".repeat(30_000) };
  for (let n = 0; n < 50; n++) await shop.sell(`k${n % 10}-${n}`, `k${n % 10}`);
  await shop.outbox.add(db, GreetedSchema, large, { key: "k3" });
  for (let n = 50; n < 100; n++) await shop.sell(`k${n % 10}-${n}`, `k${n % 10}`);
  shop.outbox.start();
  await until("all but the large one", async () => (await shop.outbox.state()).pending === 0, 60_000);
  const [parked] = await shop.outbox.list({ state: "parked" });
  assert.equal(parked?.lastError, "EVENT_TOO_LARGE");
  await assertDeliveredOnce(db, 100);
});
