import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { sql } from "kysely";
import { silent, until } from "#shared/testing";
import { busUnavailable } from "../errors.ts";
import type { Claims } from "./claims.ts";
import { createRelay } from "./relay.ts";
import type { OutboxRow } from "./rows.ts";
import { greet, isEmpty, type OutboxDatabase, openOn, outboxOn, scriptedBus } from "./test-support.ts";

/** Claims at a time, each of which holds a connection. */
async function claimsOf({ db }: OutboxDatabase): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int4 as count from pg_stat_activity
    where datname = current_database() and state = 'idle in transaction'`.execute(db);
  return rows[0]!.count;
}

test("one claim at a time tries a broker that is away", async (t) => {
  const database = await openOn("PostgreSQL", t);
  if (database === undefined) return;
  let away = true;
  const bus = scriptedBus(async () => {
    if (!away) return;
    await delay(1_300);
    if (away) throw busUnavailable("away");
  });
  const outbox = outboxOn(t, database, bus, { batchSize: 5 });
  for (let n = 0; n < 60; n++) await greet(outbox, database.db, `n${n}`, { key: `key ${n}` });
  outbox.start();
  // The lanes notice the outage together, and none is added.
  await delay(1_200);
  assert.equal(await claimsOf(database), 3);
  await delay(500);
  const sent = bus.sent.length;
  const seen: number[] = [];
  for (let look = 0; look < 20; look++) {
    seen.push(await claimsOf(database));
    await delay(100);
  }
  assert.equal(Math.max(...seen), 1, seen.join(" "));
  assert.ok(bus.sent.length <= sent + 2, "each attempt is of one event");
  away = false;
  await until("the outbox to be empty", isEmpty(outbox));
  assert.equal((await outbox.state()).published, 60);
});

test("no more lanes are added than there are at a time", async (t) => {
  let held = 0;
  let most = 0;
  let id = 0n;
  // Of two events, one is confirmed at once and one after a second and a half: each claim takes so long.
  const rowOf = (type: string): OutboxRow => {
    const envelope = { id: "", type, source: "", timeMs: 0, key: "", routingKey: "", mustBeRouted: true };
    const whole = { ...envelope, contentType: "", body: new Uint8Array(), context: {} };
    id++;
    return {
      id,
      shard: 0,
      state: "pending",
      attempts: 0,
      lastError: null,
      envelope: whole,
      halted: false,
      waitMs: null,
    };
  };
  const claims: Claims = {
    async claim(_limit, _leaseMs, work) {
      most = Math.max(most, ++held);
      const rows = [rowOf("fast"), rowOf("slow")];
      await work({ shards: [0], rows, more: async () => [], settle: async () => {}, keepAlive: async () => {} });
      held--;
      return rows.length;
    },
    refresh: async () => {},
    reset() {},
    marks: { firstIds: [], dueFromMs: 0, incarnation: "" },
  };
  const bus = scriptedBus((envelope) => (envelope.type === "slow" ? delay(1_500) : undefined));
  const relay = createRelay({ claims, bus, logger: silent, lanes: 2, batchSize: 10, pollMs: 20, leaseMs: 15_000 });
  t.after(() => relay.stop(AbortSignal.abort()));
  relay.start();
  await delay(3_200);
  assert.equal(most, 4);
});
