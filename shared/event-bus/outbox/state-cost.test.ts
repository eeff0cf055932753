import assert from "node:assert/strict";
import { test } from "node:test";
import { CompiledQuery, type QueryExecutorProvider, sql } from "kysely";
import { tableOf } from "#shared/database";
import { createOperations } from "./operations.ts";
import { readContents } from "./state.ts";
import { outboxTables, queryOn } from "./tables.ts";
import { openOn } from "./test-support.ts";

/** Counts the pages that statements read, by a run of each under `explain (analyze, buffers)`. */
function countPages(db: QueryExecutorProvider) {
  const executor = db.getExecutor();
  const total = { pages: 0 };

  async function executeQuery(query: CompiledQuery) {
    const text = `explain (analyze, buffers, format json) ${query.sql}`;
    const { rows } = await executor.executeQuery<{ "QUERY PLAN": [{ Plan: Record<string, number> }] }>(
      CompiledQuery.raw(text, [...query.parameters]),
    );
    const plan = rows[0]!["QUERY PLAN"][0].Plan;
    total.pages += plan["Shared Hit Blocks"]! + plan["Shared Read Blocks"]!;
    return executor.executeQuery(query);
  }

  const counting = new Proxy(executor, {
    get(target, name) {
      if (name === "executeQuery") return executeQuery;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { counted: { getExecutor: () => counting } satisfies QueryExecutorProvider, total };
}

test("the state and the list of a state do not cost what waits in other states", async (t) => {
  const database = await openOn("PostgreSQL", t);
  if (database === undefined) return;
  const { db } = database;
  const { counted, total } = countPages(db);
  const deferred = tableOf(db, "outbox_deferred");
  const add = (state: string, count: number) =>
    sql`
      insert into ${deferred} (shard, key, event_id, type, source, time, routing_key, must_be_routed, content_type, body,
        context, state, due)
      select n % 16, 'key ' || n, gen_random_uuid(), 't', 's', now(), 'r', true, 'c', convert_to(repeat('x', 200), 'UTF8'), '',
        ${state}::text, case when ${state}::text in ('delayed', 'failed') then now() + interval '1 hour' end
      from generate_series(1, ${count}::int) n`.execute(db);
  const marks = { firstIds: [], dueFromMs: 0, incarnation: "" };
  await add("delayed", 30_000);
  await add("parked", 5);
  await add("failed", 5);
  await add("behind", 5);
  await sql`analyze ${deferred}`.execute(db);

  for (const state of ["failed", "behind", "parked"] as const) {
    total.pages = 0;
    assert.equal((await createOperations(counted).list({ state })).length, 5);
    assert.ok(total.pages < 50, `list ${state}: ${total.pages} pages`);
  }
  await sql`delete from ${deferred} where state = 'delayed'`.execute(db);
  await sql`vacuum analyze ${deferred}`.execute(db);
  await add("behind", 30_000);
  total.pages = 0;
  const { delayed, failed, parked, pending } = await readContents(queryOn(counted), outboxTables(db), marks);
  assert.deepEqual([delayed, failed, parked, pending], [0, 5, 5, 10_000]);
  assert.ok(total.pages < 3_000, `state: ${total.pages} pages`);
});
