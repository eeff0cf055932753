import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { databaseForTest, postgresForTest } from "#shared/testing";
import { afterCommit, inTransaction, type Migration } from "./index.ts";

interface Tables {
  notes: { text: string };
}

const migrations: Record<string, Migration> = {
  "001_notes": {
    async up(db) {
      await db.schema.createTable("notes").addColumn("text", "text").execute();
    },
  },
};

const engines = {
  PGlite: async () => ({}),
  async PostgreSQL(t: TestContext) {
    const url = await postgresForTest(t);
    return url === undefined ? undefined : { url };
  },
} as const;

for (const [engine, locate] of Object.entries(engines)) {
  test(`on ${engine}, work waits for the commit, sees what was committed, and runs once`, async (t) => {
    const where = await locate(t);
    if (where === undefined) return;
    const { db } = await databaseForTest<Tables>(t, { migrations, ...where });
    const calls: string[] = [];
    await db.transaction().execute(async (tx) => {
      await tx.insertInto("notes").values({ text: "a" }).execute();
      await afterCommit(tx, () => calls.push("first"));
      await afterCommit(tx.withSchema("public"), () => calls.push("second"));
      await inTransaction(tx, (same) => afterCommit(same, () => calls.push("third")));
      assert.deepEqual(calls, []);
    });
    assert.deepEqual(calls, ["first", "second", "third"]);
    await db.transaction().execute(async (tx) => void (await tx.selectFrom("notes").selectAll().execute()));
    assert.equal(calls.length, 3);
  });

  test(`on ${engine}, work of a transaction that is rolled back never runs, not even with the next commit`, async (t) => {
    const where = await locate(t);
    if (where === undefined) return;
    const { db } = await databaseForTest<Tables>(t, { migrations, ...where });
    const calls: string[] = [];
    const failure = new Error("rolled back");
    const rolledBack = db.transaction().execute(async (tx) => {
      await afterCommit(tx, () => calls.push("never"));
      throw failure;
    });
    await assert.rejects(rolledBack, failure);
    await inTransaction(db, (tx) => afterCommit(tx, () => calls.push("committed")));
    assert.deepEqual(calls, ["committed"]);
  });

  test(`on ${engine}, work outside of a transaction runs at once`, async (t) => {
    const where = await locate(t);
    if (where === undefined) return;
    const { db } = await databaseForTest<Tables>(t, { migrations, ...where });
    const calls: string[] = [];
    await afterCommit(db, () => calls.push("now"));
    assert.deepEqual(calls, ["now"]);
  });
}
