// What may befall the connections to the broker, which a proxy breaks here.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { RegisteredSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { collectGarbage, postgresForTest, rabbitmqForTest, startTcpProxy, until, within } from "#shared/testing";
import { assertDeliveredOnce } from "./support/audit.ts";
import { createShop, type ShopOptions } from "./support/shop.ts";

/** A shop whose way to RabbitMQ can be broken. */
async function shopBehindProxy(
  t: TestContext,
  rabbitmq: Readonly<Record<string, unknown>> = {},
  outbox: ShopOptions["outbox"] = {},
) {
  const databaseUrl = await postgresForTest(t);
  const broker = await rabbitmqForTest(t);
  if (databaseUrl === undefined || broker === undefined) return undefined;
  const target = new URL(broker.url);
  const proxy = await startTcpProxy({ host: target.hostname, port: Number(target.port || 5672) });
  t.after(() => proxy.close());
  const own = new URL(broker.url);
  own.hostname = "127.0.0.1";
  own.port = String(proxy.port);
  const options: ShopOptions = {
    rabbitmq: {
      url: own.href,
      exchange: broker.name("shop"),
      queue: broker.name("shop", ".dead", ".retry.100ms"),
      heartbeat: "1s",
      connect_timeout: "2s",
      publish_timeout: "1s",
      retry: { delays: ["100ms"] },
      ...rabbitmq,
    },
    database: { url: databaseUrl },
    outbox: { leaseMs: 1_000, ...outbox },
  };
  const shop = createShop(options);
  t.after(() => shop.stop());
  return { shop, proxy };
}

const isConsuming = (shop: ReturnType<typeof createShop>) => () =>
  shop.bus.states().consumers.every(({ state }) => state === "consuming");

test("2: connections that are cut between publish and confirmation lose nothing, and no effect happens twice", async (t) => {
  const world = await shopBehindProxy(t);
  if (world === undefined) return;
  const { shop, proxy } = world;
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  for (let cut = 0; cut < 5; cut++) {
    for (let n = 0; n < 20; n++) await shop.sell(`k${n % 4}-${cut * 20 + n}`, `k${n % 4}`);
    // What is written from here on reaches the broker, and its answers do not come back.
    proxy.stall("toClient");
    for (let n = 0; n < 20; n++) await shop.sell(`s${n % 4}-${cut * 20 + n}`, `s${n % 4}`);
    await until("events to be on their way", () => shop.bus.states().unconfirmed > 0);
    proxy.cut();
    proxy.resume();
    await until("a consumer again", isConsuming(shop));
  }
  await assertDeliveredOnce(shop.database.db, 200);
});

test("3: a link that is silent is given up within its heartbeats, no promise hangs, and all is delivered on the next", async (t) => {
  const world = await shopBehindProxy(t);
  if (world === undefined) return;
  const { shop, proxy } = world;
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  await shop.sell("before");
  await assertDeliveredOnce(shop.database.db, 1);
  proxy.stall();
  const publishing = shop.bus.publish(RegisteredSchema, {
    userId: "0197f0c4-8a2b-7c3d-9e4f-2f1d0c9e4b00",
    username: "nobody's",
  });
  await within(assert.rejects(publishing, { reason: "EVENT_BUS_UNAVAILABLE" }), "a publish to end");
  await shop.sell("meanwhile");
  await until(
    "both connections to be given up",
    () => shop.bus.states().connections.every(({ state }) => state === "connecting"),
    20_000,
  );
  proxy.resume();
  await until("a consumer again", isConsuming(shop), 30_000);
  await assertDeliveredOnce(shop.database.db, 2);
});

test("20: a handler that hangs is ended by its deadline, and does not keep its consumer from a new connection", async (t) => {
  const world = await shopBehindProxy(t, { handler_timeout: "3s", concurrency: 1, retry: { delays: ["100ms"] } });
  if (world === undefined) return;
  const { shop, proxy } = world;
  const aborted: boolean[] = [];
  const consumer = shop.deliver(async (name, { attempt, signal }) => {
    if (name !== "hangs" || attempt > 1) return;
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    aborted.push(signal.aborted);
    // Whoever ignores its signal cannot write any more.
    await new Promise(() => {});
  });
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  await shop.sell("hangs");
  await until("it to hang", () => shop.bus.states().consumers[0]?.waiting === 1);
  proxy.cut();
  await until("the loss to be noticed", () => !isConsuming(shop)());
  await until("a new connection while it hangs", isConsuming(shop));
  assert.equal(aborted.length, 0, "the handler still hangs");
  await shop.sell("next");
  await assertDeliveredOnce(shop.database.db, 2);
  assert.ok(aborted.length > 0);
});

test("26: a broker that is down at the start is no reason not to start, and shows in readiness until it is back", async (t) => {
  const world = await shopBehindProxy(t);
  if (world === undefined) return;
  const { shop, proxy } = world;
  proxy.refuse();
  const consumer = shop.deliver();
  await within(shop.start(), "the start");
  await consumer.start();
  shop.outbox.start();
  const component = () => shop.readiness.state().components.find(({ name }) => name === "event bus");
  assert.equal(component()?.ready, false);
  await shop.sell("early");
  const publishing = shop.bus.publish(RegisteredSchema, {
    userId: "0197f0c4-8a2b-7c3d-9e4f-2f1d0c9e4b00",
    username: "nobody's",
  });
  await assert.rejects(publishing, { reason: "EVENT_BUS_UNAVAILABLE" });
  proxy.accept();
  await until("readiness", () => component()?.ready === true);
  await assertDeliveredOnce(shop.database.db, 1);
});

test("a broker that stays away makes the outbox grow, and not the process", async (t) => {
  // What a relay has in hand is bounded by this, three times.
  const world = await shopBehindProxy(t, {}, { batchSize: 20 });
  if (world === undefined) return;
  const { shop, proxy } = world;
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  proxy.refuse();
  const sell = async (from: number, count: number) => {
    for (let n = from; n < from + count; n += 20) {
      await Promise.all(Array.from({ length: 20 }, (_, i) => shop.sell(`k${i}-${n + i}`, `k${i}`)));
    }
  };
  await sell(0, 3_000);
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  await sell(3_000, 5_000);
  assert.equal((await shop.outbox.state()).pending, 8_000);
  // 5 000 events in memory would be several MB. What a relay has in hand just now comes and goes.
  await until("the heap to be as it was", () => {
    collectGarbage();
    return process.memoryUsage().heapUsed - before < 2_000_000;
  });
  proxy.accept();
  await assertDeliveredOnce(shop.database.db, 8_000, 120_000);
});
