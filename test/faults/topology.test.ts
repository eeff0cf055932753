// What may befall exchange and queues: deleted, full, different, not there.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Connection } from "rabbitmq-client";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createEventBus, rabbitmqSection, TopologyError } from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { postgresForTest, rabbitmqForTest, silent, until, within } from "#shared/testing";
import { assertDeliveredOnce } from "./support/audit.ts";
import { createShop } from "./support/shop.ts";

async function shopFor(t: TestContext, rabbitmq: Readonly<Record<string, unknown>> = {}) {
  const databaseUrl = await postgresForTest(t);
  const broker = await rabbitmqForTest(t);
  if (databaseUrl === undefined || broker === undefined) return undefined;
  const exchange = broker.name("shop");
  const queue = broker.name("shop", ".dead", ".retry.100ms");
  const shop = createShop({
    rabbitmq: { url: broker.url, exchange, queue, retry: { delays: ["100ms"] }, ...rabbitmq },
    database: { url: databaseUrl },
    outbox: { leaseMs: 1_000 },
  });
  t.after(() => shop.stop());
  const rabbit = new Connection({ url: broker.url });
  rabbit.on("error", () => {});
  t.after(() => rabbit.close());
  return { shop, rabbit, exchange, queue, url: broker.url };
}

test("16: a queue that is deleted while it is consumed is declared again, and nothing of the outbox is lost", async (t) => {
  const world = await shopFor(t);
  if (world === undefined) return;
  const { shop, rabbit, queue } = world;
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  for (let round = 0; round < 3; round++) {
    // What lies in a queue goes with it: this one is empty, and what comes next finds none.
    await assertDeliveredOnce(shop.database.db, round * 20);
    await rabbit.queueDelete(queue);
    for (let n = 0; n < 20; n++) await shop.sell(`k-${round * 20 + n}`, "k");
  }
  await assertDeliveredOnce(shop.database.db, 60);
});

test("16: retry and dead-letter queues that are deleted are declared again when they are needed, and nobody waits for it", async (t) => {
  const world = await shopFor(t, { concurrency: 1 });
  if (world === undefined) return;
  const { shop, rabbit, queue } = world;
  const consumer = shop.deliver((name, { attempt }) => {
    if (name.startsWith("bad") && attempt === 1) throw new Error("not yet");
  });
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  await until("it to consume", () => shop.bus.states().consumers[0]?.state === "consuming");
  for (const suffix of [".retry.100ms", ".dead"]) await rabbit.queueDelete(queue + suffix);
  for (const name of ["bad1", "bad2", "good1", "good2"]) await shop.sell(name);
  await assertDeliveredOnce(shop.database.db, 4);
});

test("17: an event that no queue takes is returned and not marked as sent, and goes out when there is one", async (t) => {
  const world = await shopFor(t);
  if (world === undefined) return;
  const { shop } = world;
  // Its consumer is declared with the bus, and so another shop's: this one has none yet.
  await shop.start();
  shop.outbox.start();
  await shop.sell("early", "k");
  await until("a return", async () => (await shop.outbox.state()).failed > 0);
  assert.equal((await shop.outbox.state()).pending, 1);
  await shop.deliver().start();
  await assertDeliveredOnce(shop.database.db, 1);
  assert.equal((await shop.outbox.state()).pending, 0);
});

test("18: a queue that is declared otherwise fails the start loudly, within a bound", async (t) => {
  const world = await shopFor(t);
  if (world === undefined) return;
  const { rabbit, exchange, queue, url } = world;
  await rabbit.queueDeclare({ queue, durable: true, arguments: { "x-queue-type": "classic" } });
  const config = rabbitmqSection.parse({ url, exchange, queue, connect_timeout: "5s" });
  const bus = createEventBus({ config, source: "shop", logger: silent, readiness: createReadiness() });
  bus.consume({ events: [GreetedSchema], handlers: { "testing.v1.Greeted": () => {} } });
  await within(
    assert.rejects(bus.start(), (error: unknown) => {
      assert.ok(error instanceof TopologyError);
      assert.ok(error.message.includes(queue) && error.message.includes("inequivalent arg"), error.message);
      return true;
    }),
    "the start to fail",
  );
  assert.deepEqual(
    bus.states().connections.map(({ state }) => state),
    ["closed", "closed"],
  );
});

test("18: an exchange of another type fails the start too", async (t) => {
  const world = await shopFor(t);
  if (world === undefined) return;
  const { rabbit, exchange, queue, url } = world;
  await rabbit.exchangeDeclare({ exchange, type: "fanout", durable: true });
  const config = rabbitmqSection.parse({ url, exchange, queue });
  const bus = createEventBus({ config, source: "shop", logger: silent, readiness: createReadiness() });
  await within(assert.rejects(bus.start(), TopologyError), "the start to fail");
});

test("19: a queue that is full refuses, its events wait in the outbox with growing pauses, and none is lost", async (t) => {
  const world = await shopFor(t, { max_length: 10, prefetch: 1, concurrency: 1 });
  if (world === undefined) return;
  const { shop } = world;
  const consumer = shop.deliver();
  await shop.start();
  shop.outbox.start();
  for (let n = 0; n < 200; n++) await shop.sell(`k${n % 10}-${n}`, `k${n % 10}`);
  await until("refusals", async () => (await shop.outbox.state()).failed > 0);
  assert.ok((await shop.outbox.state()).pending > 0);
  await consumer.start();
  await assertDeliveredOnce(shop.database.db, 200, 120_000);
  assert.equal((await shop.outbox.state()).pending, 0);
});
