import assert from "node:assert/strict";
import { test } from "node:test";
import pg from "pg";
import { Connection } from "rabbitmq-client";
import { closeAfter, postgresForTest, rabbitmqForTest } from "#shared/testing";
import { createName, markAlive, removeLeftovers } from "./leftovers.ts";

test("schema and queues of a run that was killed are removed, and those of one that is going on stay", async (t) => {
  const databaseUrl = await postgresForTest(t);
  const broker = await rabbitmqForTest(t);
  if (databaseUrl === undefined || broker === undefined) return;
  const [dead, alive] = [createName(), createName()];
  broker.alsoDelete(dead, `${dead}.dead`, alive);
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  closeAfter(t, () => client.end());
  const rabbit = new Connection({ url: broker.url });
  closeAfter(t, () => rabbit.close());
  closeAfter(t, await markAlive(databaseUrl, alive));
  for (const name of [dead, alive, "bench_of_others"]) await client.query(`create schema "${name}"`);
  for (const queue of [dead, `${dead}.dead`, alive]) await rabbit.queueDeclare({ queue, durable: true });

  assert.deepEqual(await removeLeftovers(broker.url, databaseUrl), [dead]);
  const { rows } = await client.query("select nspname from pg_namespace where nspname like 'bench%' order by 1");
  assert.deepEqual(
    rows.map(({ nspname }) => nspname),
    [alive, "bench_of_others"].toSorted(),
  );
  await rabbit.queueDeclare({ queue: alive, passive: true });
  await assert.rejects(rabbit.queueDeclare({ queue: dead, passive: true }), /NOT_FOUND|NOT-FOUND/);
  assert.deepEqual(await removeLeftovers(broker.url, databaseUrl), []);
});
