import assert from "node:assert/strict";
import { test } from "node:test";
import type { Logger } from "#shared/logging";
import { createMarks } from "./marks.ts";
import { SHARDS } from "./shard.ts";
import type { Query } from "./tables.ts";

const tables = { outbox: "s.outbox", deferred: "s.outbox_deferred", shards: "s.outbox_shards", sequence: "s.sequence" };

/** A database whose state the test sets. */
function scriptedDatabase() {
  const state = {
    id: 0n,
    clockMs: 1_000_000,
    writers: [] as string[],
    leftId: null as bigint | null,
    updates: 0,
    markedId: 0n,
    incarnation: "server 1",
    errors: 0,
  };
  const logger = { error: () => state.errors++ };
  const query: Query = async <Row>(text: string) => {
    const rows: unknown[] = [];
    if (text.includes("as marked_id")) {
      rows.push({ id: state.id, clock_ms: state.clockMs, marked_id: state.markedId, incarnation: state.incarnation });
    } else if (text.includes("pg_locks")) rows.push({ writers: state.writers, incarnation: state.incarnation });
    else if (text.includes("update s.outbox_deferred")) state.updates++;
    else if (text.includes("set first_id = 0")) state.markedId = 0n;
    else {
      for (let shard = 0; shard < SHARDS; shard++) {
        const left_id = shard === 0 ? state.leftId : null;
        rows.push({ shard, first: 0n, left_id, due_ms: null, incarnation: state.incarnation });
      }
    }
    return rows as Row[];
  };
  return { state, query, marks: createMarks(tables, logger as unknown as Logger) };
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
  assert.deepEqual([marks.firstIds[0], state.errors], [0n, 1]);
  await marks.refresh(query);
  assert.equal(marks.firstIds[0], 6n);
  marks.reset();
  assert.deepEqual([marks.firstIds[0], marks.dueFromMs], [0n, 0]);
});

test("another server takes the marks back, in the table too", async () => {
  const { state, query, marks } = scriptedDatabase();
  state.id = 10n;
  await marks.refresh(query);
  state.markedId = 8n;
  state.incarnation = "server 2";
  await marks.refresh(query);
  assert.deepEqual([marks.firstIds[0], state.markedId, state.errors], [0n, 0n, 0]);
  await marks.refresh(query);
  assert.equal(marks.firstIds[0], 11n);
});

test("a refresh that was under way at a reset moves no mark", async () => {
  const { state, query, marks } = scriptedDatabase();
  state.id = 10n;
  for (const part of ["as marked_id", "pg_locks", "as left_id"]) {
    const interrupted: Query = async (text, parameters) => {
      const rows = await query(text, parameters);
      if (text.includes(part)) marks.reset();
      return rows as never;
    };
    await marks.refresh(interrupted);
    assert.deepEqual([marks.firstIds[0], marks.incarnation], [0n, ""], part);
  }
});
