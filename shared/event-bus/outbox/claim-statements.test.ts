import assert from "node:assert/strict";
import { test } from "node:test";
import type { QueryExecutorProvider } from "kysely";
import { silent } from "#shared/testing";
import { createClaims } from "./claims.ts";
import { shardOf } from "./shard.ts";
import { greet, openOn, outboxOn, scriptedBus } from "./test-support.ts";

/** Records what is run on connections of the database. */
function recorded(db: QueryExecutorProvider) {
  const executor = db.getExecutor();
  const statements: string[] = [];
  const provideConnection: typeof executor.provideConnection = (work) =>
    executor.provideConnection((connection) =>
      work({
        executeQuery(query) {
          statements.push(query.sql.trim());
          return connection.executeQuery(query);
        },
        streamQuery: () => assert.fail("nothing is streamed"),
      }),
    );
  const recording = new Proxy(executor, {
    get(target, name) {
      if (name === "provideConnection") return provideConnection;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { db: { getExecutor: () => recording } satisfies QueryExecutorProvider, statements };
}

test("a claim of many shards takes as many statements as one of a single shard, and keeps the order of each key", async (t) => {
  const database = await openOn("PostgreSQL", t);
  if (database === undefined) return;
  const outbox = outboxOn(t, database, scriptedBus());
  const keys = Array.from({ length: 40 }, (_, index) => `key-${index}`);
  const { db, statements } = recorded(database.db);
  const claims = createClaims(db, silent);
  const taken: number[] = [];
  for (const ofOneShard of [true, false]) {
    const chosen = keys.filter((key) => !ofOneShard || shardOf(key) === shardOf("key-0"));
    for (const place of ["1", "2", "3"]) for (const key of chosen) await greet(outbox, database.db, place, { key });
    statements.length = 0;
    let shards: readonly number[] = [];
    const claimed = await claims.claim(500, 15_000, async (claim) => {
      shards = claim.shards;
      const ids = new Map<string, bigint>();
      for (const { id, envelope } of claim.rows) {
        assert.ok(id > (ids.get(envelope.key) ?? 0n));
        ids.set(envelope.key, id);
      }
      await claim.settle(claim.rows.map((row) => ({ kind: "published", row })));
    });
    taken.push(statements.length);
    assert.ok(ofOneShard ? shards.length === 1 : shards.length > 3, `${shards.length} shards`);
    assert.equal(claimed, 3 * chosen.filter((key) => shards.includes(shardOf(key))).length);
  }
  // Begin, pick, fetch, delete, commit.
  assert.deepEqual(taken, [5, 5], statements.join("\n"));
});
