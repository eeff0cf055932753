import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { sql } from "kysely";
import { type CallContext, runInCall, startTrace } from "#shared/call-context";
import { tableOf } from "#shared/database";
import { until } from "#shared/testing";
import type { EventEnvelope } from "../envelope.ts";
import { busUnavailable, refused, unroutable } from "../errors.ts";
import { engines, greet, hurryRetries, isEmpty, nameOf, openOn, outboxOn, scriptedBus } from "./test-support.ts";

for (const engine of Object.keys(engines)) {
  describe(`an outbox on ${engine}`, () => {
    test("publishes what is committed, as it was added, and forgets it", async (t) => {
      const database = await openOn(engine, t);
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
      await runInCall(call, () => database.db.transaction().execute((tx) => greet(outbox, tx, "Ada", { key: "k" })));
      await until("the outbox to be empty", isEmpty(outbox));
      assert.equal(bus.sent.length, 1);
      const [{ type, source, key, routingKey, mustBeRouted, contentType, context, timeMs }] = bus.sent as [
        EventEnvelope,
      ];
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
      assert.ok(Math.abs(Date.now() - timeMs) < 60_000);
      assert.equal(context["x-request-id"], "r1");
      assert.ok(context["traceparent"]?.includes(call.trace.traceId));
      const { oldestMs, ...state } = await outbox.state();
      assert.equal(oldestMs, 0);
      assert.deepEqual(state, { pending: 0, delayed: 0, failed: 0, parked: 0, published: 1, failedAttempts: 0 });
    });

    test("publishes nothing of a transaction that is rolled back", async (t) => {
      const database = await openOn(engine, t);
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
      assert.deepEqual(bus.names(), ["after"]);
    });

    test("keeps the order of each key over several relays whose bus refuses at random", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const accepted = new Map<string, string[]>();
      let calls = 0;
      const bus = scriptedBus(async (envelope) => {
        await new Promise((resolve) => setImmediate(resolve));
        if (++calls % 7 === 0) throw refused("the queue is full");
        accepted.set(envelope.key, [...(accepted.get(envelope.key) ?? []), nameOf(envelope)]);
      });
      const relays = Array.from({ length: 3 }, () => outboxOn(t, database, bus, { batchSize: 10 }));
      const expected = new Map<string, string[]>();
      const add = async (n: number) => {
        const key = `key${n % 5}`;
        await greet(relays[n % 3]!, database.db, `n${n}`, { key });
        expected.set(key, [...(expected.get(key) ?? []), `n${n}`]);
      };
      for (let n = 0; n < 100; n++) await add(n);
      hurryRetries(t, database);
      for (const relay of relays) relay.start();
      for (let n = 100; n < 150; n++) await add(n);
      await until("the outbox to be empty", isEmpty(relays[0]!), 120_000);
      assert.deepEqual(accepted, expected);
    });

    test("holds a key back behind its failed event, and no other key", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      let routed = false;
      const bus = scriptedBus(({ key }) => {
        if (key === "bad" && !routed) throw unroutable("user.greeted");
      });
      const outbox = outboxOn(t, database, bus, { pollMs: 10 });
      const names = ["1", "2", "3"];
      for (const name of names) await greet(outbox, database.db, name, { key: "bad" });
      for (const name of names) await greet(outbox, database.db, name, { key: "good" });
      outbox.start();
      await until("the good to be gone", async () => (await outbox.state()).pending === 3);
      await greet(outbox, database.db, "4", { key: "bad" });
      await until("the late one to be behind", async () => (await outbox.list({ state: "behind" })).length === 3);
      const listed = await outbox.list();
      assert.deepEqual(
        listed.map(({ state, key }) => [state, key]),
        [
          ["failed", "bad"],
          ["behind", "bad"],
          ["behind", "bad"],
          ["behind", "bad"],
        ],
      );
      assert.equal(listed[0]?.lastError, "EVENT_UNROUTABLE");
      assert.ok(listed[0].attempts >= 1);
      assert.equal(bus.sent.filter(({ key }) => key === "good").length, 3);
      assert.deepEqual(new Set(bus.sent.filter(({ key }) => key === "bad").map(nameOf)), new Set(["1"]));
      const { failed, failedAttempts } = await outbox.state();
      assert.equal(failed, 1);
      assert.ok(failedAttempts >= 1);
      routed = true;
      hurryRetries(t, database);
      await until("the outbox to be empty", isEmpty(outbox));
      const bad = bus.sent.filter(({ key }) => key === "bad").map(nameOf);
      assert.deepEqual(bad.slice(-4), ["1", "2", "3", "4"]);
      await greet(outbox, database.db, "5", { key: "bad" });
      await until("the key to go on", () => bus.names().at(-1) === "5");
    });

    test("spends no attempt on a bus that cannot be reached, and goes on when it is back", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      let away = true;
      const bus = scriptedBus(() => {
        if (away) throw busUnavailable("away");
      });
      const outbox = outboxOn(t, database, bus);
      await greet(outbox, database.db, "Ada", { key: "k" });
      outbox.start();
      await until("some attempts", () => bus.sent.length >= 3);
      const [event] = await outbox.list();
      assert.deepEqual([event?.state, event?.attempts, event?.lastError], ["pending", 0, undefined]);
      away = false;
      await until("the outbox to be empty", isEmpty(outbox));
      assert.equal((await outbox.state()).failedAttempts, 0);
    });

    test("delivers what another process has added, without a nudge", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const bus = scriptedBus();
      const outbox = outboxOn(t, database, bus);
      outbox.start();
      await greet(outboxOn(t, database, scriptedBus()), database.db, "Ada");
      await until("the outbox to be empty", isEmpty(outbox));
      assert.equal(bus.sent.length, 1);
    });

    test("keeps its claim for as long as its bus takes", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const slow = scriptedBus(() => promise);
      const outbox = outboxOn(t, database, slow, { leaseMs: 300 });
      await greet(outbox, database.db, "Ada", { key: "k" });
      outbox.start();
      await until("the event to be under way", () => slow.sent.length === 1);
      const other = scriptedBus();
      const second = outboxOn(t, database, other, { leaseMs: 300 });
      second.start();
      await new Promise((done) => setTimeout(done, 1_000));
      resolve();
      await until("the outbox to be empty", isEmpty(outbox));
      assert.deepEqual([slow.sent.length, other.sent.length], [1, 0]);
    });

    test("an event that takes long keeps nothing waiting but its key", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const bus = scriptedBus((envelope) => (nameOf(envelope) === "slow" ? promise : undefined));
      const outbox = outboxOn(t, database, bus, { lanes: 1, pollMs: 10 });
      await greet(outbox, database.db, "slow", { key: "a" });
      outbox.start();
      await until("it to be under way", () => bus.sent.length === 1);
      await greet(outbox, database.db, "behind it", { key: "a" });
      const others = Array.from({ length: 64 }, (_, n) => `other ${n}`);
      for (const name of others) await greet(outbox, database.db, name, { key: name });
      await until("the others to be published", () => bus.sent.length === 65, 10_000);
      await greet(outbox, database.db, "late");
      await until("a later one to be published", () => bus.sent.length === 66, 10_000);
      resolve();
      await until("the outbox to be empty", isEmpty(outbox));
      const names = bus.names();
      assert.equal(names.length, 67, "nothing is sent twice");
      assert.equal(names.at(-1), "behind it");
    });

    test("sends nothing twice while confirmations trickle in", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      // Around the time after which a claim writes what it has and takes more.
      const bus = scriptedBus(() => delay(800 + Math.random() * 600));
      const outbox = outboxOn(t, database, bus);
      await database.db.transaction().execute(async (tx) => {
        for (let n = 0; n < 800; n++) await greet(outbox, tx, `${n}`, { key: n % 2 === 0 ? "" : `${n}` });
      });
      outbox.start();
      await until("the outbox to be empty", isEmpty(outbox), 60_000);
      assert.equal(bus.sent.length, 800);
    });

    test("gives back at a stop what it has not published", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const bus = scriptedBus(
        (_, signal) =>
          new Promise<void>((_resolve, reject) => signal?.addEventListener("abort", () => reject(signal.reason))),
      );
      const outbox = outboxOn(t, database, bus);
      await greet(outbox, database.db, "Ada", { key: "k" });
      outbox.start();
      await until("the event to be under way", () => bus.sent.length === 1);
      await outbox.stop(AbortSignal.abort());
      const other = scriptedBus();
      const second = outboxOn(t, database, other);
      second.start();
      await until("the other to publish it", () => other.sent.length === 1);
      assert.equal((await second.state()).failedAttempts, 0);
    });

    test("delivers what a slow transaction has put in before the others", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined || engine === "PGlite") return;
      const bus = scriptedBus();
      const outbox = outboxOn(t, database, bus);
      outbox.start();
      const { promise, resolve } = Promise.withResolvers<void>();
      const slow = database.db.transaction().execute(async (tx) => {
        await greet(outbox, tx, "slow", { key: "k" });
        await promise;
      });
      // For longer than marks take to move.
      for (let n = 0; n < 25; n++) {
        await greet(outbox, database.db, `quick ${n}`, { key: "k" });
        await new Promise((done) => setTimeout(done, 100));
      }
      await until("the quick ones to be published", () => bus.sent.length === 25);
      resolve();
      await slow;
      await until("the slow one to be published", () => bus.sent.length === 26);
    });

    test("publishes and counts what is added after the sequence went back, or the table was emptied", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const { db } = database;
      const bus = scriptedBus();
      const first = outboxOn(t, database, bus);
      const shards = tableOf(db, "outbox_shards");
      await sql`update ${shards} set first_id = 1000`.execute(db);
      await greet(first, db, "behind the mark", { key: "k" });
      assert.equal((await first.state()).pending, 1);
      first.start();
      await until("the outbox to be empty", isEmpty(first));
      await until("no mark to be left", async () => {
        const { rows } = await sql`select from ${shards} where first_id > 0`.execute(db);
        return rows.length === 0;
      });
      for (let n = 0; n < 20; n++) await greet(first, db, `n${n}`, { key: "k" });
      await until("the outbox to be empty", isEmpty(first));
      await delay(1_200);
      // The idle relay's marks are in its memory now. No refresh comes between this and the next event.
      await greet(first, db, "moves the marks", { key: "k" });
      await until("the outbox to be empty", isEmpty(first));
      await sql`truncate ${tableOf(db, "outbox")} restart identity`.execute(db);
      for (let n = 0; n < 30; n++) await greet(first, db, `again ${n}`, { key: "k" });
      await until("all to be published", () => bus.sent.length === 52);
    });

    test("a relay that has stalled loses its claim, and what it writes then is refused", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined || engine === "PGlite") return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const stalled = scriptedBus(() => promise);
      const first = outboxOn(t, database, stalled, { lanes: 1 });
      await greet(first, database.db, "1", { key: "k" });
      await greet(first, database.db, "2", { key: "k" });
      first.start();
      await until("it to be under way", () => stalled.sent.length === 1);
      // Before the first notices that it has lost its claim, and takes it again.
      const bus = scriptedBus();
      outboxOn(t, database, bus, { pollMs: 5 }).start();
      await sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and state = 'idle in transaction'
        order by xact_start limit 1`.execute(database.db);
      await until("the other to have published", () => bus.sent.length === 2);
      resolve();
      await until("the outbox to be empty", isEmpty(first));
      assert.deepEqual(bus.names(), ["1", "2"]);
    });
  });
}
