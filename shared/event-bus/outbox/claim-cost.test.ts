import assert from "node:assert/strict";
import { test } from "node:test";
import { CompiledQuery, type DatabaseConnection, type QueryExecutorProvider, sql } from "kysely";
import pg from "pg";
import { databaseForTest, postgresForTest, silent } from "#shared/testing";
import { createClaims } from "./claims.ts";
import { outboxMigration } from "./migration.ts";
import type { OutboxDatabase } from "./test-support.ts";

/** Rows that wait, and rows that are dead. `OUTBOX_ROWS=1500000` is the size of a bad day, and takes half a minute: see .ci/run. */
const ROWS = Number(process.env["OUTBOX_ROWS"] ?? 200_000);
/** Divides evenly into the shards of a claim. */
const BATCH = 96;

interface Explained {
  readonly "QUERY PLAN": readonly { Plan: { "Shared Hit Blocks": number; "Shared Read Blocks": number } }[];
}

/** Counts the pages that each select reads, by a run before it under `explain (analyze, buffers)`. */
function countPages(db: QueryExecutorProvider) {
  const executor = db.getExecutor();
  let pages = 0;

  function counted(connection: DatabaseConnection): DatabaseConnection {
    return {
      async executeQuery<Row>(query: CompiledQuery) {
        if (/^\s*select/.test(query.sql)) {
          const text = `explain (analyze, buffers, format json) ${query.sql}`;
          const { rows } = await connection.executeQuery<Explained>(CompiledQuery.raw(text, [...query.parameters]));
          const plan = rows[0]!["QUERY PLAN"][0]!.Plan;
          pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"];
        }
        return connection.executeQuery<Row>(query);
      },
      streamQuery: () => assert.fail("nothing is streamed"),
    };
  }

  const counting = new Proxy(executor, {
    get(target, name) {
      if (name === "provideConnection") {
        return (work: (connection: DatabaseConnection) => Promise<unknown>) =>
          target.provideConnection((connection) => work(counted(connection)));
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return {
    db: { getExecutor: () => counting } satisfies QueryExecutorProvider,
    take() {
      const taken = pages;
      pages = 0;
      return taken;
    },
  };
}

test("the cost of a claim depends on what it claims, and not on what waits, is dead or is halted", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const database: OutboxDatabase = await databaseForTest(t, {
    migrations: { "001_outbox": outboxMigration },
    url,
    settings: { statement_timeout: "50s" },
  });
  const { db } = database;
  const { rows: schemas } = await sql<{ schema: string }>`select current_schema() as schema`.execute(db);

  const columns = sql`shard, key, event_id, type, source, time, routing_key, must_be_routed, content_type, body, context`;
  const events = (count: number, key = "key ") => sql`
    select n % 16, ${key}::text || n, gen_random_uuid(), 'testing.v1.Greeted', 'test', now(), 'testing.greeted', true,
      'application/protobuf', convert_to(repeat('x', 200), 'UTF8'), '' from generate_series(1, ${count}::int) n`;
  const addWaiting = (count: number) => sql`insert into outbox (${columns}) ${events(count)}`.execute(db);
  const addDeferred = (state: string, count: number) =>
    sql`
      insert into outbox_deferred (${columns}, state, due)
      select e.*, ${state}, now() + interval '1 hour' from (${events(count, state)}) e`.execute(db);

  const counter = countPages(db);
  const claims = createClaims(counter.db, silent);

  /** Least pages of a claim, before and after the planner has statistics. */
  async function cost(): Promise<number> {
    const costs: number[] = [];
    for (const analyzed of [false, true]) {
      if (analyzed) await sql`analyze outbox, outbox_deferred`.execute(db);
      for (let round = 0; round < 2; round++) {
        await claims.refresh();
        counter.take();
        const claimed = await claims.claim(BATCH, 15_000, async () => {});
        assert.equal(claimed, BATCH);
        costs.push(counter.take());
      }
    }
    t.diagnostic(`pages: ${costs.join(", ")}`);
    return Math.max(Math.min(...costs.slice(0, 2)), Math.min(...costs.slice(2)));
  }

  await addWaiting(16 * BATCH);
  const least = await cost();
  await addWaiting(ROWS);
  const waiting = await cost();
  assert.ok(waiting <= 2 * least, `${ROWS} rows wait: ${waiting} pages, ${least} without them`);

  const holder = new pg.Client({ connectionString: url });
  holder.on("error", () => {});
  await holder.connect();
  t.after(() => holder.end());
  await holder.query("begin isolation level repeatable read");
  await holder.query(`select from "${schemas[0]!.schema}".outbox limit 1`);
  await sql`delete from outbox`.execute(db);
  await addWaiting(16 * BATCH);
  await claims.refresh();
  const dead = await cost();
  assert.ok(dead <= 2 * least, `${ROWS} rows are dead and held: ${dead} pages, ${least} without them`);

  await addDeferred("failed", 100_000);
  const halted = await cost();
  assert.ok(halted <= 2 * least, `100,000 keys are halted: ${halted} pages, ${least} without them`);
  await addDeferred("delayed", 100_000);
  const delayed = await cost();
  assert.ok(delayed <= 2 * least, `100,000 events are delayed: ${delayed} pages, ${least} without them`);
});

test("the events behind a failed one cost the same from first to last while a snapshot is held", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const database: OutboxDatabase = await databaseForTest(t, { migrations: { "001_outbox": outboxMigration }, url });
  const { db } = database;
  await sql`
    insert into outbox_deferred (shard, key, event_id, type, source, time, routing_key, must_be_routed, content_type, body,
      context, state, due)
    select 0, 'k', gen_random_uuid(), 't', 's', now(), 'r', true, 'c', convert_to(repeat('x', 200), 'UTF8'), '',
      case n when 1 then 'failed' else 'behind' end, case n when 1 then now() end from generate_series(1, 3000) n`.execute(
    db,
  );
  await sql`analyze outbox_deferred`.execute(db);
  const { rows: schemas } = await sql<{ schema: string }>`select current_schema() as schema`.execute(db);
  const holder = new pg.Client({ connectionString: url });
  holder.on("error", () => {});
  await holder.connect();
  t.after(() => holder.end());
  await holder.query("begin isolation level repeatable read");
  await holder.query(`select from "${schemas[0]!.schema}".outbox_deferred limit 1`);

  const counter = countPages(db);
  const claims = createClaims(counter.db, silent);
  const costs: number[] = [];
  for (let left = 3_000; left > 0; ) {
    counter.take();
    const claimed = await claims.claim(100, 15_000, (claim) =>
      claim.settle(claim.rows.map((row) => ({ kind: "published", row }))),
    );
    assert.ok(claimed !== undefined && claimed > 0);
    left -= claimed;
    costs.push(counter.take());
  }
  t.diagnostic(`pages: ${costs.join(", ")}`);
  assert.ok(costs.at(-2)! <= 1.2 * costs[1]!, `${costs[1]} pages at first, ${costs.at(-2)} at last`);
});
