import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sql } from "kysely";
import { tableOf } from "#shared/database";
import { until } from "#shared/testing";
import { notConfirmed, refused, tooLarge } from "../errors.ts";
import { engines, greet, hurryRetries, isEmpty, nameOf, openOn, outboxOn, scriptedBus } from "./test-support.ts";

for (const engine of Object.keys(engines)) {
  describe(`events that wait in an outbox on ${engine}`, () => {
    test("a delayed event is published when it is due, and not before", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const sentAtMs = new Map<string, number>();
      const bus = scriptedBus((envelope) => void sentAtMs.set(nameOf(envelope), Date.now()));
      const outbox = outboxOn(t, database, bus);
      outbox.start();
      const notBefore = new Date(Date.now() + 1_500);
      await database.db.transaction().execute(async (tx) => {
        await greet(outbox, tx, "later", { key: "k", notBefore });
        await greet(outbox, tx, "now", { key: "k" });
        await greet(outbox, tx, "in a day", { notBefore: new Date(Date.now() + 86_400_000) });
        await greet(outbox, tx, "overdue", { notBefore: new Date(0) });
      });
      await until("those that are due to be gone", async () => {
        const { pending, delayed } = await outbox.state();
        return pending === 0 && delayed === 1;
      });
      const names = [...sentAtMs.keys()];
      assert.deepEqual(names.toSorted(), ["later", "now", "overdue"]);
      assert.ok(names.indexOf("now") < names.indexOf("later"), "the next event of its key does not wait for it");
      assert.ok((sentAtMs.get("later") ?? 0) >= notBefore.getTime() - 100, "not before its time");
    });

    test("a delayed event that is refused halts its key until it is published", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      let full = true;
      const bus = scriptedBus((envelope) => {
        if (full && nameOf(envelope) === "delayed") throw refused("full");
      });
      const outbox = outboxOn(t, database, bus);
      await greet(outbox, database.db, "delayed", { key: "k", notBefore: new Date(0) });
      outbox.start();
      await until("an attempt", async () => (await outbox.state()).failed === 1);
      await greet(outbox, database.db, "after", { key: "k" });
      await until("it to wait", async () => (await outbox.list({ state: "behind" })).length === 1);
      full = false;
      hurryRetries(t, database);
      await until("the outbox to be empty", isEmpty(outbox));
      assert.deepEqual([...new Set(bus.names())], ["delayed", "after"]);
    });

    test("an event that nothing can take is parked at once, and its key goes on", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const bus = scriptedBus((envelope) => {
        if (nameOf(envelope) === "large") throw tooLarge("17 MiB");
      });
      const outbox = outboxOn(t, database, bus);
      for (const name of ["1", "large", "2"]) await greet(outbox, database.db, name, { key: "k" });
      outbox.start();
      await until("the others to be published", isEmpty(outbox));
      assert.deepEqual(bus.names(), ["1", "large", "2"]);
      const [parked] = await outbox.list();
      assert.deepEqual(
        [parked?.state, parked?.key, parked?.lastError, parked?.attempts, parked?.due],
        ["parked", "k", "EVENT_TOO_LARGE", 1, undefined],
      );
      assert.equal((await outbox.state()).parked, 1);
    });

    test("an event whose link is too slow for it twice is parked, and what waited behind it goes on", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const bus = scriptedBus((envelope) => {
        if (nameOf(envelope) === "large") throw notConfirmed(1, 1);
      });
      const outbox = outboxOn(t, database, bus);
      for (const name of ["large", "2", "3"]) await greet(outbox, database.db, name, { key: "k" });
      hurryRetries(t, database);
      outbox.start();
      await until("the others to be published", isEmpty(outbox));
      assert.deepEqual(bus.names(), ["large", "large", "2", "3"]);
      const [parked] = await outbox.list({ state: "parked" });
      assert.equal(parked?.lastError, "EVENT_NOT_CONFIRMED");
    });

    test("an operator lists, shows, parks, retries and drops events", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      let full = true;
      const bus = scriptedBus(({ key }) => {
        if (full && key === "k") throw refused("full");
      });
      const outbox = outboxOn(t, database, bus);
      for (const name of ["1", "2", "3", "4"]) await greet(outbox, database.db, name, { key: "k" });
      const stored = await outbox.list({ limit: 3 });
      assert.deepEqual(
        stored.map(({ state }) => state),
        ["pending", "pending", "pending"],
      );
      const [fourth] = await outbox.list({ after: stored[2]!.id });
      const ids = [...stored.map(({ id }) => id), fourth!.id];
      outbox.start();
      await until("the key to be halted", async () => (await outbox.list({ state: "behind" })).length === 3);
      const shown = await outbox.show(ids[1]!);
      assert.equal(shown?.state, "behind");
      assert.equal(nameOf(shown.envelope), "2");
      assert.equal(await outbox.show(1_000_000n), undefined);

      // The next event of the key takes the place of one that is parked.
      assert.equal(await outbox.drop([ids[1]!]), 1);
      assert.equal(await outbox.park([ids[0]!], "wrong address"), 1);
      await until("the third to have been tried", () => bus.names().includes("3"));
      full = false;
      assert.equal(await outbox.retry([ids[2]!, ids[3]!]), 1, "the fourth waits for the third");
      await until("all but the parked one to be published", isEmpty(outbox));
      assert.deepEqual(bus.names().slice(-2), ["3", "4"]);
      assert.ok(!bus.names().includes("2"));
      const [parked] = await outbox.list();
      assert.deepEqual([parked?.id, parked?.state, parked?.lastError], [ids[0], "parked", "wrong address"]);
      assert.equal(await outbox.retry([ids[0]!]), 1);
      await until("it to be published", async () => (await outbox.list()).length === 0);
      assert.equal(bus.names().at(-1), "1");
    });

    test("a clock that steps back pauses nothing", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      const bus = scriptedBus();
      const outbox = outboxOn(t, database, bus);
      await greet(outbox, database.db, "failed before", { key: "k" });
      // As the rows are after the clock has gone back by an hour, an earlier version's lease that is given back included.
      const shards = tableOf(database.db, "outbox_shards");
      await sql`update ${shards} set lease = null, lease_until = now() + interval '1 hour'`.execute(database.db);
      outbox.start();
      await until("the outbox to be empty", isEmpty(outbox), 3_000);
    });

    test("a key with many events behind its failed one goes on in order", async (t) => {
      const database = await openOn(engine, t);
      if (database === undefined) return;
      let full = true;
      const bus = scriptedBus(() => {
        if (full) throw refused("full");
      });
      const outbox = outboxOn(t, database, bus, { batchSize: 7 });
      const names = Array.from({ length: 40 }, (_, n) => `${n}`);
      for (const name of names) await greet(outbox, database.db, name, { key: "k" });
      outbox.start();
      await until("all to wait", async () => (await outbox.list({ state: "behind" })).length === 39);
      full = false;
      const before = bus.sent.length;
      hurryRetries(t, database);
      await until("the outbox to be empty", isEmpty(outbox));
      assert.deepEqual([...new Set(bus.names().slice(before))].slice(-40), names);
    });
  });
}
