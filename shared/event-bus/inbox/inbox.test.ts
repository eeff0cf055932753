import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { sql, type Transaction } from "kysely";
import { type Database, type Migration, violatedConstraint } from "#shared/database";
import { databaseForTest, postgresForTest, silent } from "#shared/testing";
import { createInbox, type InboxOptions } from "./inbox.ts";
import { inboxMigration } from "./migration.ts";

interface Tables {
  effects: { event_id: string };
  inbox: { queue: string; event_id: string; handled_at: Date };
}

const migrations: Record<string, Migration> = {
  "001_inbox": inboxMigration,
  "002_effects": {
    async up(db) {
      await db.schema.createTable("effects").addColumn("event_id", "text").execute();
      await db.schema
        .createTable("names")
        .addColumn("name", "text", (column) => column.primaryKey())
        .execute();
    },
  },
};

const engines: Record<string, (t: TestContext) => Promise<{ url?: string } | undefined>> = {
  PGlite: async () => ({}),
  async PostgreSQL(t) {
    const url = await postgresForTest(t);
    return url === undefined ? undefined : { url };
  },
};

const messages = (...ids: string[]) => ids.map((id) => ({ id, source: "test" }));
const kinds = (results: readonly { kind: string }[]) => results.map(({ kind }) => kind);

for (const [engine, locate] of Object.entries(engines)) {
  describe(`an inbox on ${engine}`, () => {
    async function open(t: TestContext): Promise<Database<Tables> | undefined> {
      const where = await locate(t);
      return where && databaseForTest<Tables>(t, { migrations, ...where });
    }

    function inboxOn({ db }: Database<Tables>, options: Partial<InboxOptions<Tables>> = {}) {
      return createInbox<Tables>({ db, logger: silent, ...options });
    }

    const effect = async ({ id }: { id: string }, { tx }: { tx: Transaction<Tables> }) => {
      await tx.insertInto("effects").values({ event_id: id }).execute();
    };
    const effects = async ({ db }: Database<Tables>) =>
      (await db.selectFrom("effects").select("event_id").orderBy("event_id").execute()).map((row) => row.event_id);

    test("lets an effect happen once for each id and queue, in one batch and in many", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const inbox = inboxOn(database);
      assert.deepEqual(kinds(await inbox.run("q", messages("a", "b", "a"), effect)), ["done", "done", "duplicate"]);
      assert.deepEqual(kinds(await inbox.run("q", messages("b", "c"), effect)), ["duplicate", "done"]);
      assert.deepEqual(kinds(await inbox.run("other", messages("a"), effect)), ["done"]);
      assert.deepEqual(await effects(database), ["a", "a", "b", "c"]);
    });

    test("lets one of two that come at the same moment have the effect", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const inbox = inboxOn(database);
      const runs = await Promise.all([
        inbox.run("q", messages("a", "b", "c"), effect),
        inbox.run("q", messages("c", "b", "a"), effect),
        inbox.run("q", messages("b"), effect),
      ]);
      assert.deepEqual(runs.flatMap(kinds).sort(), [...Array(3).fill("done"), ...Array(4).fill("duplicate")]);
      assert.deepEqual(await effects(database), ["a", "b", "c"]);
    });

    test("takes back the work of one that fails, and of no other in its batch", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const failure = new Error("no");
      const results = await inboxOn(database).run("q", messages("a", "bad", "c"), async (message, extra) => {
        await effect(message, extra);
        if (message.id === "bad") throw failure;
      });
      assert.deepEqual(results, [{ kind: "done" }, { kind: "failed", error: failure }, { kind: "done" }]);
      assert.deepEqual(await effects(database), ["a", "c"]);
      assert.deepEqual(kinds(await inboxOn(database).run("q", messages("bad"), effect)), ["done"]);
    });

    test("calls a handler failed that has swallowed the error of a statement, and not the one after it", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const results = await inboxOn(database).run("q", messages("a", "swallows", "c"), async (message, extra) => {
        await effect(message, extra);
        if (message.id !== "swallows") return;
        await sql`insert into names (name) values ('x'), ('x')`.execute(extra.tx).catch((error: unknown) => {
          assert.equal(violatedConstraint(error), "names_pkey");
        });
      });
      assert.deepEqual(kinds(results), ["done", "failed", "done"]);
      assert.deepEqual(await effects(database), ["a", "c"]);
    });

    test("refuses statements of a handler whose time is over", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      let kept: Transaction<Tables> | undefined;
      await inboxOn(database).run("q", messages("a"), async (message, extra) => {
        kept = extra.tx;
        await effect(message, extra);
      });
      await assert.rejects(effect({ id: "late" }, { tx: kept! }));
      await assert.rejects(sql`insert into effects (event_id) values ('late')`.execute(kept!));
      assert.deepEqual(await effects(database), ["a"]);
    });

    test("ends a transaction that has lasted long enough, and goes on in the next", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const transactions = new Set<string>();
      const results = await inboxOn(database, { batchTimeMs: 0 }).run(
        "q",
        messages("a", "b", "c"),
        async (message, extra) => {
          await effect(message, extra);
          const { rows } = await sql<{ id: string }>`select txid_current()::text as id`.execute(extra.tx);
          transactions.add(rows[0]!.id);
        },
      );
      assert.deepEqual(kinds(results), ["done", "done", "done"]);
      assert.equal(transactions.size, 3);
      assert.deepEqual(await effects(database), ["a", "b", "c"]);
    });

    test("calls one failed whose id cannot be stored, and no other", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const ids = ["a", "b\0", Array.from({ length: 2_000 }, (_, n) => n.toString(36)).join(), "c"];
      const results = await inboxOn(database).run("q", messages(...ids), effect);
      assert.deepEqual(kinds(results), ["done", "failed", "failed", "done"]);
    });

    test("does not go on to later ones once one has to wait", async (t) => {
      const database = await open(t);
      const closed = await open(t);
      if (database === undefined || closed === undefined) return;
      await closed.close();
      let calls = 0;
      const results = await inboxOn(database).run("q", messages("a", "b", "c"), async () => {
        // Each alone from the second on: `a` has to wait there, and `b` must not overtake it.
        if (++calls === 1) throw new Error("one of them fails");
        await closed.db.selectFrom("inbox").selectAll().execute();
      });
      assert.deepEqual(kinds(results), ["unavailable", "unavailable", "unavailable"]);
    });

    test("removes ids that are older than any copy, and keeps the others", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const inbox = inboxOn(database, { retentionMs: 60_000 });
      await inbox.run("q", messages("old", "new"), effect);
      await sql`update inbox set handled_at = now() - interval '2 minutes' where event_id = 'old'`.execute(database.db);
      inbox.start();
      const left = async () =>
        (await database.db.selectFrom("inbox").select("event_id").execute()).map((row) => row.event_id);
      for (let looks = 0; (await left()).length > 1 && looks < 1_000; looks++) await new Promise(setImmediate);
      await inbox.stop();
      assert.deepEqual(await left(), ["new"]);
    });

    test("spends no attempt while ids cannot be stored", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const inbox = inboxOn(database);
      await sql`alter table inbox rename to hidden`.execute(database.db);
      const results = await inbox.run("q", messages("a", "b"), effect);
      assert.deepEqual(kinds(results), ["unavailable", "unavailable"]);
      await sql`alter table hidden rename to inbox`.execute(database.db);
      assert.deepEqual(kinds(await inbox.run("q", messages("a", "b"), effect)), ["done", "done"]);
    });
  });
}
