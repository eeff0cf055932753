import assert from "node:assert/strict";
import { test } from "node:test";
import { createMarks } from "./marks.ts";
import { SHARDS } from "./shard.ts";
import type { Query } from "./tables.ts";

const tables = { outbox: "s.outbox", deferred: "s.outbox_deferred", shards: "s.outbox_shards", sequence: "s.sequence" };

/** A database whose state the test sets. */
function scriptedDatabase() {
  const state = { id: 0n, clockMs: 1_000_000, writers: [] as string[], leftId: null as bigint | null, updates: 0 };
  const query: Query = async <Row>(text: string) => {
    const rows: unknown[] = [];
    if (text.includes("from s.sequence")) rows.push({ id: state.id, clock_ms: state.clockMs });
    else if (text.includes("pg_locks")) rows.push({ writers: state.writers });
    else if (text.includes("update s.outbox_deferred")) state.updates++;
    else {
      for (let shard = 0; shard < SHARDS; shard++) {
        rows.push({ shard, first_id: 0n, left_id: shard === 0 ? state.leftId : null, due_ms: null });
      }
    }
    return rows as Row[];
  };
  return { state, query, marks: createMarks(tables) };
}

test("a mark passes no id that a transaction from before may still commit", async () => {
  const { state, query, marks } = scriptedDatabase();
  state.id = 10n;
  await marks.refresh(query);
  assert.equal(marks.firstIds[0], 11n);
  state.id = 20n;
  state.writers = ["3/7"];
  await marks.refresh(query);
  assert.equal(marks.firstIds[0], 11n, "3/7 may have drawn an id up to 20");
  state.id = 30n;
  state.writers = ["3/7", "4/1"];
  await marks.refresh(query);
  assert.equal(marks.firstIds[0], 11n);
  // Under a new name it may still be the same: a prepared transaction.
  state.writers = ["-1/99", "4/1"];
  await marks.refresh(query);
  assert.equal(marks.firstIds[0], 11n);
  state.writers = ["4/1"];
  await marks.refresh(query);
  assert.equal(marks.firstIds[0], 21n, "what began later does not matter for ids up to 20");
  state.leftId = 25n;
  state.writers = [];
  await marks.refresh(query);
  assert.deepEqual([marks.firstIds[0], marks.firstIds[1]], [25n, 31n], "an event that is left stays above the mark");
});

test("a clock or a sequence that goes back takes the marks back with it", async () => {
  const { state, query, marks } = scriptedDatabase();
  state.id = 10n;
  await marks.refresh(query);
  assert.equal(marks.dueFromMs, state.clockMs - 60_000);
  state.clockMs -= 20_000;
  await marks.refresh(query);
  assert.equal(state.updates, 1, "failed events do not wait for the old time");
  assert.equal(marks.dueFromMs, state.clockMs - 60_000);
  // As after a failover to a server without the last transactions.
  state.id = 5n;
  await marks.refresh(query);
  assert.equal(marks.firstIds[0], 6n);
  marks.reset();
  assert.deepEqual([marks.firstIds[0], marks.dueFromMs], [0n, 0]);
});
