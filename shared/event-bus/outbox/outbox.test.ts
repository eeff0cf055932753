import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { sql } from "kysely";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { type CallContext, runInCall, startTrace } from "#shared/call-context";
import type { Database } from "#shared/database";
import { databaseForTest, postgresForTest, silent, until } from "#shared/testing";
import type { EventEnvelope } from "../envelope.ts";
import { busUnavailable, refused, unroutable } from "../errors.ts";
import { createClaims } from "./claims.ts";
import { outboxMigration } from "./migration.ts";
import { createOutbox, type Outbox, type OutboxOptions } from "./outbox.ts";

interface Tables {
  outbox: { id: bigint; key: string; attempts: number; last_error: string | null; not_before: Date | null };
  outbox_shards: { shard: number; lease: string | null; lease_until: Date };
}

/** A bus whose answers the test gives. */
function scriptedBus(answer: (envelope: EventEnvelope) => Promise<void> | void = () => {}) {
  const sent: EventEnvelope[] = [];
  return {
    sent,
    async send(envelope: EventEnvelope) {
      sent.push(envelope);
      await answer(envelope);
    },
  };
}

const engines: Record<string, (t: TestContext) => Promise<{ url?: string } | undefined>> = {
  PGlite: async () => ({}),
  async PostgreSQL(t) {
    const url = await postgresForTest(t);
    return url === undefined ? undefined : { url };
  },
};

for (const [engine, locate] of Object.entries(engines)) {
  describe(`an outbox on ${engine}`, () => {
    async function open(t: TestContext): Promise<Database<Tables> | undefined> {
      const where = await locate(t);
      return where && databaseForTest<Tables>(t, { migrations: { "001_outbox": outboxMigration }, ...where });
    }

    function outboxOn(
      t: TestContext,
      { db }: Database<Tables>,
      bus: OutboxOptions["bus"],
      options: Partial<OutboxOptions> = {},
    ) {
      const config = { encoding: "protobuf" } as const;
      const outbox = createOutbox({ db, bus, config, source: "test", logger: silent, pollMs: 20, ...options });
      t.after(() => outbox.stop(AbortSignal.abort()));
      return outbox;
    }

    const greet = (outbox: Outbox, db: Database<Tables>["db"], name: string, key?: string) =>
      outbox.add(db, GreetedSchema, { name, message: "" }, key === undefined ? {} : { key });
    const isEmpty = (outbox: Outbox) => async () => (await outbox.state()).pending === 0;

    test("publishes what is committed, as it was added, and forgets it", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const bus = scriptedBus();
      const outbox = outboxOn(t, database, bus);
      outbox.start();
      const call: CallContext = {
        method: "t",
        requestId: "r1",
        trace: startTrace(),
        signal: new AbortController().signal,
      };
      await runInCall(call, () => database.db.transaction().execute((tx) => greet(outbox, tx, "Ada", "k")));
      await until("the outbox to be empty", isEmpty(outbox));
      assert.equal(bus.sent.length, 1);
      const [{ type, source, key, routingKey, mustBeRouted, contentType, context }] = bus.sent as [EventEnvelope];
      assert.deepEqual(
        { type, source, key, routingKey, mustBeRouted, contentType },
        {
          type: "testing.v1.Greeted",
          source: "test",
          key: "k",
          routingKey: "testing.greeted",
          mustBeRouted: true,
          contentType: "application/protobuf",
        },
      );
      assert.equal(context["x-request-id"], "r1");
      assert.ok(context["traceparent"]?.includes(call.trace.traceId));
      assert.deepEqual(await outbox.state(), { pending: 0, published: 1, failed: 0 });
    });

    test("publishes nothing of a transaction that is rolled back", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const bus = scriptedBus();
      const outbox = outboxOn(t, database, bus);
      outbox.start();
      const failure = new Error("rolled back");
      const rolledBack = database.db.transaction().execute(async (tx) => {
        await greet(outbox, tx, "never");
        throw failure;
      });
      await assert.rejects(rolledBack, failure);
      await greet(outbox, database.db, "after");
      await until("the outbox to be empty", isEmpty(outbox));
      assert.equal(bus.sent.length, 1);
    });

    test("keeps the order of each key over several relays whose bus refuses at random", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const accepted = new Map<string, string[]>();
      let calls = 0;
      let inFlight = 0;
      const bus = scriptedBus(async ({ id, key }) => {
        assert.ok(++inFlight > 0);
        await new Promise((resolve) => setImmediate(resolve));
        inFlight--;
        if (++calls % 7 === 0) throw refused("the queue is full");
        accepted.set(key, [...(accepted.get(key) ?? []), id]);
      });
      const relays = Array.from({ length: 3 }, () => outboxOn(t, database, bus, { batchSize: 10 }));
      const added = new Map<string, bigint[]>();
      for (let n = 0; n < 150; n++) await greet(relays[n % 3]!, database.db, `n${n}`, `key${n % 5}`);
      const rows = await sql<{ id: bigint; key: string; event_id: string }>`
        select id, key, event_id from outbox order by id`.execute(database.db);
      for (const { key, id } of rows.rows) added.set(key, [...(added.get(key) ?? []), id]);
      for (const relay of relays) relay.start();
      // What was refused may go again at once: the test's clock is not the database's.
      const hurry = setInterval(
        () =>
          void sql`update outbox set not_before = now() where not_before > now()`.execute(database.db).catch(() => {}),
        25,
      );
      t.after(() => clearInterval(hurry));
      await until("the outbox to be empty", isEmpty(relays[0]!), 30_000);
      clearInterval(hurry);
      for (const key of added.keys()) {
        const expected = rows.rows.filter((row) => row.key === key).map(({ event_id }) => event_id);
        assert.deepEqual([...new Set(accepted.get(key))], expected, key);
      }
      assert.equal([...accepted.values()].flat().length, 150, "nothing is published twice");
    });

    test("holds a key back behind its failed event, and no other key", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const bus = scriptedBus(({ key }) => {
        if (key === "bad") throw unroutable("testing.greeted");
      });
      const outbox = outboxOn(t, database, bus, { pollMs: 10 });
      for (const name of ["1", "2"]) await greet(outbox, database.db, name, "bad");
      for (const name of ["1", "2", "3"]) await greet(outbox, database.db, name, "good");
      outbox.start();
      await until("the good to be gone", async () => (await outbox.state()).pending === 2);
      const rows = await database.db.selectFrom("outbox").select(["attempts", "last_error"]).orderBy("id").execute();
      assert.equal(rows[0]?.last_error, "EVENT_UNROUTABLE");
      assert.ok(rows[0]!.attempts >= 1);
      assert.equal(rows[1]?.attempts, 0);
      assert.equal(bus.sent.filter(({ key }) => key === "good").length, 3);
      assert.equal(new Set(bus.sent.filter(({ key }) => key === "bad").map(({ id }) => id)).size, 1);
    });

    test("spends no attempt on a bus that cannot be reached, and goes on when it is back", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      let away = true;
      const bus = scriptedBus(() => {
        if (away) throw busUnavailable("away");
      });
      const outbox = outboxOn(t, database, bus);
      await greet(outbox, database.db, "Ada", "k");
      outbox.start();
      await until("some attempts", () => bus.sent.length >= 3);
      const [row] = await database.db.selectFrom("outbox").select(["attempts", "not_before"]).execute();
      assert.deepEqual(row, { attempts: 0, not_before: null });
      away = false;
      await until("the outbox to be empty", isEmpty(outbox));
    });

    test("delivers what another process has added, without a nudge", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const bus = scriptedBus();
      const outbox = outboxOn(t, database, bus);
      outbox.start();
      await greet(outboxOn(t, database, scriptedBus()), database.db, "Ada");
      await until("the outbox to be empty", isEmpty(outbox));
      assert.equal(bus.sent.length, 1);
    });

    test("does not let a relay that has stalled write over the one that took its shard", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const outbox = outboxOn(t, database, scriptedBus());
      await greet(outbox, database.db, "Ada", "k");
      const claims = createClaims(database.db);
      const stalled = await claims.claim(10, 10_000);
      assert.ok(stalled);
      assert.equal(await claims.claim(10, 10_000), undefined, "one at a time");
      await database.db
        .updateTable("outbox_shards")
        .set({ lease_until: new Date(0) })
        .where("shard", "=", stalled.shard)
        .execute();
      const second = await claims.claim(10, 10_000);
      assert.deepEqual(
        second?.rows.map(({ id }) => id),
        stalled.rows.map(({ id }) => id),
      );
      const results = { published: stalled.rows.map(({ id }) => id), failed: [] };
      assert.equal(await claims.renew(stalled, 10_000), false);
      assert.equal(await claims.finish(stalled, results), false);
      assert.equal(await claims.pending(), 1);
      assert.equal(await claims.renew(second!, 10_000), true);
      assert.equal(await claims.finish(second!, results), true);
      assert.equal(await claims.pending(), 0);
    });

    test("keeps its claim for as long as its bus takes", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const slow = scriptedBus(() => promise);
      const outbox = outboxOn(t, database, slow, { leaseMs: 150 });
      await greet(outbox, database.db, "Ada", "k");
      outbox.start();
      await until("the event to be under way", () => slow.sent.length === 1);
      const other = scriptedBus();
      const second = outboxOn(t, database, other, { leaseMs: 150 });
      second.start();
      const leases = new Set<string>();
      await until("the lease to be renewed twice", async () => {
        const rows = await database.db
          .selectFrom("outbox_shards")
          .select("lease_until")
          .where("lease", "is not", null)
          .execute();
        for (const row of rows) leases.add(row.lease_until.toISOString());
        return leases.size >= 3;
      });
      resolve();
      await until("the outbox to be empty", isEmpty(outbox));
      assert.deepEqual([slow.sent.length, other.sent.length], [1, 0]);
    });

    test("gives back at a stop what it has not published", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const bus = {
        send: (_: EventEnvelope, signal?: AbortSignal) =>
          new Promise<void>((_resolve, reject) => signal?.addEventListener("abort", () => reject(signal.reason))),
      };
      const outbox = outboxOn(t, database, bus);
      await greet(outbox, database.db, "Ada", "k");
      outbox.start();
      const claims = createClaims(database.db);
      await until("the shard to be claimed", async () => (await claims.claim(1, 1)) === undefined);
      await outbox.stop(AbortSignal.abort());
      await until("the shard to be free", async () => (await claims.claim(1, 10_000)) !== undefined);
      const [row] = await database.db.selectFrom("outbox").select(["attempts", "not_before"]).execute();
      assert.deepEqual(row, { attempts: 0, not_before: null });
    });

    test("delivers what a slow transaction has put in before the others", async (t) => {
      const database = await open(t);
      if (database === undefined || engine === "PGlite") return;
      const bus = scriptedBus();
      const outbox = outboxOn(t, database, bus);
      outbox.start();
      const { promise, resolve } = Promise.withResolvers<void>();
      const slow = database.db.transaction().execute(async (tx) => {
        await greet(outbox, tx, "slow");
        await promise;
      });
      await greet(outbox, database.db, "quick");
      await until("the quick one to be published", () => bus.sent.length === 1);
      resolve();
      await slow;
      await until("the slow one to be published", () => bus.sent.length === 2);
    });
  });
}
