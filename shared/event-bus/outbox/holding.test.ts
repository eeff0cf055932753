import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isOutage } from "#shared/database";
import { createShardHolding } from "./holding.ts";
import { outboxTables } from "./tables.ts";
import { openOn } from "./test-support.ts";

for (const engine of ["PostgreSQL", "PgBouncer"]) {
  test(`a hold ends after its lease without a statement, on ${engine}`, async (t) => {
    const database = await openOn(engine, t);
    if (database === undefined) return;
    const { db } = database;
    const tables = outboxTables(db);
    const pick = {
      select: `select s.shard from ${tables.shards} s`,
      where: "true",
      orderBy: "s.shard",
      parameters: [],
    };
    const held = createShardHolding(db, tables).hold(pick, 1, 200, async ({ keepAlive }) => {
      await delay(100);
      await keepAlive();
      await delay(1_000);
      await assert.rejects(keepAlive(), isOutage);
    });
    await assert.rejects(held, isOutage);
  });
}
