import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { type ColumnType, type Generated, type Kysely, sql } from "kysely";
import { pino } from "pino";
import { DomainError } from "#shared/errors";
import { createReadiness } from "#shared/lifecycle";
import {
  closeAfter,
  databaseConfig,
  databaseForTest,
  embeddedForTest,
  pgbouncerForTest,
  postgresForTest,
} from "#shared/testing";
import {
  createDatabase,
  type Database,
  decodePageToken,
  encodePageToken,
  type Migration,
  tableOf,
  violatedConstraint,
} from "./index.ts";

interface Tables {
  notes: {
    id: string;
    title: string;
    /** Written by JSON.stringify. */
    tags: ColumnType<unknown, string, string>;
    views: Generated<number>;
    size: Generated<bigint>;
    created_at: Generated<Date>;
  };
}

const migrations: Record<string, Migration> = {
  "001_notes": {
    async up(db: Kysely<unknown>) {
      await db.schema
        .createTable("notes")
        .addColumn("id", "uuid", (column) => column.primaryKey())
        .addColumn("title", "text", (column) => column.notNull())
        .addColumn("tags", "jsonb", (column) => column.notNull().defaultTo(sql`'[]'::jsonb`))
        .addColumn("views", "integer", (column) => column.notNull().defaultTo(0))
        .addColumn("size", "bigint", (column) => column.notNull().defaultTo(0))
        .addColumn("created_at", "timestamptz(3)", (column) => column.notNull().defaultTo(sql`now()`))
        .addUniqueConstraint("notes_title_key", ["title"])
        .execute();
    },
  },
  // Plain SQL with unqualified names means the service's schema too.
  "002_order": { up: (db) => sql`create index notes_order on notes (created_at, id)`.execute(db).then(() => {}) },
};

const EMBEDDED = "pglite:memory";
const engines: Record<string, (t: TestContext) => Promise<string | undefined>> = {
  PGlite: async () => EMBEDDED,
  PostgreSQL: postgresForTest,
  "PostgreSQL behind PgBouncer": async (t) => (await pgbouncerForTest(t))?.url,
};

const note = (title: string) => ({ id: randomUUID(), title, tags: "[]" });
const titles = async (db: Kysely<Tables>) =>
  (await db.selectFrom("notes").select("title").orderBy("title").execute()).map((row) => row.title);

for (const [engine, urlOf] of Object.entries(engines)) {
  async function open(t: TestContext, settings = {}): Promise<Database<Tables> | undefined> {
    const url = await urlOf(t);
    if (url === undefined) return undefined;
    return await databaseForTest<Tables>(t, { migrations, settings, ...(url !== EMBEDDED && { url }) });
  }

  describe(engine, () => {
    test("columns come back as the types that are documented", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      const { rows } = await sql<Record<string, unknown>>`select
        9007199254740993::int8 as int8, 7::int4 as int4, 7::int2 as int2, 1.5::float8 as float8, 1.50::numeric as numeric,
        'x'::text as text, '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid as uuid, true as bool,
        '2026-01-02T03:04:05.678Z'::timestamptz as timestamptz, '2026-01-02'::date as date,
        '2026-01-02 03:04:05'::timestamp as timestamp, '1 day'::interval as interval,
        '{"a":[1,null]}'::jsonb as jsonb, '"s"'::json as json, '\\x00ff'::bytea as bytea, count(*) as count,
        array[1,null]::int8[] as int8s, array[1,2]::int4[] as int4s, array['a','b'] as texts,
        array[1.5]::numeric[] as numerics, array['2026-01-02'::date] as dates, array[[1],[2]]::int8[] as nested,
        null::int8 as nothing`.execute(db);
      const { bytea, ...row } = rows[0]!;
      assert.deepEqual(row, {
        int8: 9007199254740993n,
        int4: 7,
        int2: 7,
        float8: 1.5,
        numeric: "1.50",
        text: "x",
        uuid: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        bool: true,
        timestamptz: new Date("2026-01-02T03:04:05.678Z"),
        date: "2026-01-02",
        timestamp: "2026-01-02 03:04:05",
        interval: "1 day",
        jsonb: { a: [1, null] },
        json: "s",
        count: 1n,
        int8s: [1n, null],
        int4s: [1, 2],
        texts: ["a", "b"],
        numerics: ["1.5"],
        dates: ["2026-01-02"],
        nested: [[1n], [2n]],
        nothing: null,
      });
      assert.ok(bytea instanceof Uint8Array);
      assert.deepEqual([...bytea], [0, 255]);
    });

    test("what is written comes back the same", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      const row = {
        id: randomUUID(),
        title: "Å “quoted” \\ 'text'",
        views: -3,
        size: 2n ** 62n,
        created_at: new Date("2026-01-02T03:04:05.678Z"),
      };
      const tags = ["a", { b: 1 }];
      await db
        .insertInto("notes")
        .values({ ...row, tags: JSON.stringify(tags) })
        .execute();
      assert.deepEqual(await db.selectFrom("notes").selectAll().where("size", "=", row.size).execute(), [
        { ...row, tags },
      ]);
    });

    test("changes count the rows that they changed", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      const inserted = await db
        .insertInto("notes")
        .values([note("a"), note("b")])
        .executeTakeFirst();
      const updated = await db.updateTable("notes").set({ views: 1 }).executeTakeFirst();
      const deleted = await db.deleteFrom("notes").where("title", "=", "a").executeTakeFirst();
      assert.deepEqual(
        [inserted.numInsertedOrUpdatedRows, updated.numUpdatedRows, deleted.numDeletedRows],
        [2n, 2n, 1n],
      );
    });

    test("a unique violation tells its constraint, any other error none", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      const first = note("same");
      await db.insertInto("notes").values(first).execute();
      const violation = (values: typeof first) =>
        db
          .insertInto("notes")
          .values(values)
          .execute()
          .then(() => undefined, violatedConstraint);
      assert.equal(await violation(note("same")), "notes_title_key");
      assert.equal(await violation({ ...first, title: "other" }), "notes_pkey");
      assert.equal(await violation({ ...first, id: first.id.replace("-", "x") as typeof first.id }), undefined);
      assert.equal(violatedConstraint(new Error("23505")), undefined);
    });

    test("a transaction that throws leaves nothing, and its error is the one thrown", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      const refusal = new DomainError("failed_precondition", "NO", "no");
      const attempt = db.transaction().execute(async (trx) => {
        await trx.insertInto("notes").values(note("half")).execute();
        throw refusal;
      });
      await assert.rejects(attempt, (error) => error === refusal);
      assert.deepEqual(await titles(db), []);
    });

    test("a transaction cannot commit past a failed statement", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      const attempt = db.transaction().execute(async (trx) => {
        await trx.insertInto("notes").values(note("half")).execute();
        await trx
          .insertInto("notes")
          .values(note("half"))
          .execute()
          .catch(() => "ignored");
      });
      await assert.rejects(attempt, { name: "AbortedTransactionError" });
      assert.deepEqual(await titles(db), []);
    });

    test("a savepoint takes back what follows it, and no more", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      const trx = await db.startTransaction().execute();
      await trx.insertInto("notes").values(note("kept")).execute();
      const inner = await trx.savepoint("inner").execute();
      await inner.insertInto("notes").values(note("dropped")).execute();
      await inner.rollbackToSavepoint("inner").execute();
      await trx.commit().execute();
      assert.deepEqual(await titles(db), ["kept"]);
    });

    test("transactions at the same time do not mix", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      await db.insertInto("notes").values(note("counter")).execute();
      const increment = (fail: boolean) =>
        db.transaction().execute(async (trx) => {
          const { views } = await trx.selectFrom("notes").select("views").forUpdate().executeTakeFirstOrThrow();
          await trx
            .updateTable("notes")
            .set({ views: views + 1 })
            .execute();
          if (fail) throw new Error("on purpose");
        });
      await Promise.allSettled(Array.from({ length: 20 }, (_, index) => increment(index % 2 === 1)));
      assert.equal((await db.selectFrom("notes").select("views").executeTakeFirstOrThrow()).views, 10);
    });

    test("plain SQL names tables by tableOf; in a transaction, unqualified names mean the schema too", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      await db.insertInto("notes").values(note("here")).execute();
      const qualified = sql<{ title: string }>`select title from ${tableOf(db, "notes")}`;
      const unqualified = sql<{ title: string }>`select title from notes`;
      assert.deepEqual((await qualified.execute(db)).rows, [{ title: "here" }]);
      await db.transaction().execute(async (trx) => {
        assert.deepEqual((await qualified.execute(trx)).rows, [{ title: "here" }]);
        assert.deepEqual((await unqualified.execute(trx)).rows, [{ title: "here" }]);
      });
    });

    test("a transaction ends what is left open between its statements for too long", {
      skip: engine === "PGlite" && "PGlite has no limit for it",
    }, async (t) => {
      const db = (await open(t, { statement_timeout: "50ms", idle_in_transaction_timeout: "100ms" }))?.db;
      if (db === undefined) return;
      const attempt = db.transaction().execute(async (trx) => {
        await trx.insertInto("notes").values(note("half")).execute();
        const end = performance.now() + 500;
        while (performance.now() < end) await new Promise(setImmediate);
        await trx.insertInto("notes").values(note("other half")).execute();
      });
      await assert.rejects(attempt, { code: "unavailable", reason: "DATABASE_UNAVAILABLE" });
      assert.deepEqual(await titles(db), []);
    });

    test("pages by token meet every row once, those of one instant too", async (t) => {
      const db = (await open(t))?.db;
      if (db === undefined) return;
      const rows = Array.from({ length: 25 }, (_, index) => ({
        ...note(`note ${index}`),
        created_at: new Date(1_767_323_045_678 + Math.floor(index / 10)),
      }));
      await db.insertInto("notes").values(rows).execute();
      const seen: string[] = [];
      let token = "";
      let pages = 0;
      do {
        const key = decodePageToken("notes", token, ["timestamptz", "uuid"]);
        const page = await db
          .selectFrom("notes")
          .select(["id", "created_at"])
          .$if(key !== undefined, (query) =>
            query.where(({ eb, refTuple, tuple }) => eb(refTuple("created_at", "id"), ">", tuple(key![0], key![1]))),
          )
          .orderBy("created_at")
          .orderBy("id")
          .limit(7)
          .execute();
        seen.push(...page.map((row) => row.id));
        const last = page.at(-1);
        token = page.length < 7 || last === undefined ? "" : encodePageToken("notes", [last.created_at, last.id]);
        pages += 1;
      } while (token !== "");
      assert.equal(pages, 4);
      assert.deepEqual([...seen].sort(), rows.map((row) => row.id).sort());
    });

    test("a statement that takes too long is ended, and the connection lives on", {
      skip: engine === "PGlite" && "PGlite cannot interrupt a statement",
    }, async (t) => {
      const db = (await open(t, { statement_timeout: "50ms", pool_size: 1 }))?.db;
      if (db === undefined) return;
      const pid = async () => (await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(db)).rows[0]?.pid;
      const before = await pid();
      await assert.rejects(sql`select pg_sleep(10)`.execute(db), { code: "unavailable", reason: "DATABASE_TIMEOUT" });
      const attempt = db.transaction().execute(async (trx) => {
        await trx.insertInto("notes").values(note("half")).execute();
        await sql`select pg_sleep(10)`.execute(trx);
      });
      await assert.rejects(attempt, { code: "unavailable", reason: "DATABASE_TIMEOUT" });
      assert.deepEqual(await titles(db), []);
      assert.equal(await pid(), before);
    });

    test("before it is ready and after it is closed, everything is unavailable", async (t) => {
      const url = await urlOf(t);
      if (url === undefined) return;
      const readiness = createReadiness();
      const schema = `test_${randomUUID().replaceAll("-", "")}`;
      const database = createDatabase<Tables>({
        config: databaseConfig({ url }),
        schema,
        migrations,
        logger: pino({ level: "silent" }),
        readiness,
        ...(url === EMBEDDED && { embedded: await embeddedForTest() }),
      });
      closeAfter(t, () => database.close());
      const { db } = database;
      const away = { name: "DomainError", code: "unavailable", reason: "DATABASE_UNAVAILABLE" };
      const allAway = async () => {
        await assert.rejects(db.selectFrom("notes").selectAll().execute(), away);
        await assert.rejects(sql`select 1`.execute(db), away);
        await assert.rejects(
          db.transaction().execute(async () => "never"),
          away,
        );
        assert.equal(readiness.state().ready, false);
      };
      await allAway();
      await assert.rejects(database.ready(AbortSignal.abort(new Error("enough"))), { message: "enough" });
      const ready = database.ready();
      database.start();
      await ready;
      assert.equal(readiness.state().ready, true);
      assert.deepEqual(await titles(db), []);
      await sql`drop schema ${sql.id(schema)} cascade`.execute(db);
      await database.close();
      await allAway();
      await assert.rejects(database.ready(), away);
      await database.close();
    });
  });
}
