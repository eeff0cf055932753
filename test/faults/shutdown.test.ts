// The end of a service under load.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { postgresForTest, rabbitmqForTest, until } from "#shared/testing";
import { killPrograms, runProgram } from "../support/service-process.ts";
import { assertDeliveredOnce } from "./support/audit.ts";
import { createShop, type ShopOptions } from "./support/shop.ts";
import type { WorkerOptions } from "./support/worker.ts";

after(killPrograms);

test("21: on SIGTERM under load what runs is finished, the rest goes to another, and the process is out in time", async (t) => {
  const databaseUrl = await postgresForTest(t);
  const broker = await rabbitmqForTest(t);
  if (databaseUrl === undefined || broker === undefined) return;
  const options: ShopOptions = {
    rabbitmq: {
      url: broker.url,
      exchange: broker.name("shop"),
      queue: broker.name("shop", ".dead", ".retry.100ms"),
      concurrency: 4,
      prefetch: 50,
      retry: { delays: ["100ms"] },
    },
    database: { url: databaseUrl },
    outbox: { leaseMs: 2_000 },
  };
  const watcher = createShop(options);
  t.after(() => watcher.stop());
  const consumer = watcher.deliver();
  await watcher.start();
  const start = (worker: Omit<WorkerOptions, "shop">) =>
    runProgram("test/faults/support/worker.ts", { env: { WORKER: JSON.stringify({ shop: options, ...worker }) } });
  const replicas = [0, 1, 2].map((n) =>
    start({ relay: true, deliver: true, handlerMs: 20, sell: { keys: [`a${n}`, `b${n}`], count: 100 } }),
  );
  await Promise.all(replicas.map((replica) => replica.line(/^started/)));
  await until("some effects", async () => {
    const { length } = await watcher.database.db.selectFrom("effects").select("name").execute();
    return length > 50;
  });
  // Still selling, relaying and delivering.
  for (const replica of replicas) assert.equal(await replica.end("SIGTERM"), 0, replica.stderr());
  const { length: sold } = await watcher.database.db.selectFrom("sales").select("name").execute();
  assert.ok(sold < 600, "they were stopped in the middle");
  watcher.outbox.start();
  await consumer.start();
  await assertDeliveredOnce(watcher.database.db, sold);
});
