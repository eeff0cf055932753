import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { sql, type Transaction } from "kysely";
import { type Database, type Migration, tableOf, violatedConstraint } from "#shared/database";
import { DomainError } from "#shared/errors";
import {
  databaseForTest,
  pgbouncerForTest,
  postgresForTest,
  recordLog,
  silent,
  startTcpProxy,
  until,
} from "#shared/testing";
import { createInbox, type Inbox, type InboxOptions } from "./inbox.ts";
import { inboxKey } from "./key.ts";
import { inboxMigration } from "./migration.ts";
import { windowOf } from "./window.ts";

interface Tables {
  effects: { event_id: string };
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
  async "PostgreSQL behind PgBouncer"(t) {
    const pgbouncer = await pgbouncerForTest(t);
    return pgbouncer === undefined ? undefined : { url: pgbouncer.url };
  },
};

const messages = (...ids: string[]) => ids.map((id) => ({ id, source: "shop" }));
const kinds = (results: readonly { kind: string }[]) => results.map(({ kind }) => kind);
const inboxOn = ({ db }: Database<Tables>, options: Partial<InboxOptions<Tables>> = {}): Inbox<Tables> =>
  createInbox<Tables>({ db, logger: silent, ...options });

const effect = async ({ id }: { id: string }, { tx }: { tx: Transaction<Tables> }) => {
  await tx.insertInto("effects").values({ event_id: id }).execute();
};
const effects = async ({ db }: Database<Tables>) =>
  (await db.selectFrom("effects").select("event_id").orderBy("event_id").execute()).map((row) => row.event_id);
const stored = async ({ db }: Database<Tables>) => {
  const { rows } = await sql<{
    keys: number;
  }>`select count(*)::int4 as keys from ${tableOf(db, "inbox_events")}`.execute(db);
  return rows[0]?.keys;
};

for (const [engine, locate] of Object.entries(engines)) {
  describe(`an inbox on ${engine}`, () => {
    async function open(t: TestContext): Promise<Database<Tables> | undefined> {
      const where = await locate(t);
      return where && databaseForTest<Tables>(t, { migrations, ...where });
    }

    test("has each event handled once in each queue, within a batch and over several", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const inbox = inboxOn(database);
      assert.deepEqual(kinds(await inbox.run("q", messages("a", "b", "a"), effect)), ["done", "done", "duplicate"]);
      assert.deepEqual(kinds(await inbox.run("q", messages("b", "c"), effect)), ["duplicate", "done"]);
      assert.deepEqual(kinds(await inbox.run("other", messages("a"), effect)), ["done"]);
      assert.deepEqual(await effects(database), ["a", "a", "b", "c"]);
    });

    test("tells events of two sources with one id apart", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const both = [
        { id: "1", source: "billing" },
        { id: "1", source: "crm" },
      ];
      assert.deepEqual(kinds(await inboxOn(database).run("q", [...both, ...both], effect)), [
        "done",
        "done",
        "duplicate",
        "duplicate",
      ]);
    });

    test("has one of several copies that come at the same moment handled", async (t) => {
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

    test("rolls back the work of a handler that fails, and of no other in its batch", async (t) => {
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

    test("reports a handler that swallowed the error of a statement as failed, and not the one after it", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const results = await inboxOn(database).run("q", messages("a", "swallows", "c"), async (message, extra) => {
        await effect(message, extra);
        if (message.id !== "swallows") return;
        await sql`insert into ${tableOf(extra.tx, "names")} (name) values ('x'), ('x')`
          .execute(extra.tx)
          .catch((error: unknown) => {
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
      await assert.rejects(sql`insert into ${tableOf(kept!, "effects")} (event_id) values ('late')`.execute(kept!));
      assert.deepEqual(await effects(database), ["a"]);
    });

    test("ends a transaction that has lasted long enough, and stores in it only what it has handled", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const transactions = new Set<string>();
      const keys: (number | undefined)[] = [];
      const results = await inboxOn(database, { batchTimeMs: 0 }).run(
        "q",
        messages("a", "b", "c"),
        async (message, extra) => {
          await effect(message, extra);
          const { rows } = await sql<{ id: string; keys: number }>`
            select txid_current()::text as id, (select count(*)::int4 from ${tableOf(extra.tx, "inbox_events")}) as keys`.execute(
            extra.tx,
          );
          transactions.add(rows[0]!.id);
          keys.push(rows[0]?.keys);
        },
      );
      assert.deepEqual(kinds(results), ["done", "done", "done"]);
      assert.equal(transactions.size, 3);
      // The first transaction had stored all three; after that, one at a time.
      assert.deepEqual(keys, [3, 2, 3]);
      assert.equal(await stored(database), 3);
      assert.deepEqual(await effects(database), ["a", "b", "c"]);
    });

    test("takes any id", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const ids = ["", "b\0", "x".repeat(100_000), "é", "'"];
      const work = async () => {};
      assert.deepEqual(kinds(await inboxOn(database).run("q", messages(...ids), work)), Array(5).fill("done"));
      assert.deepEqual(kinds(await inboxOn(database).run("q", messages(...ids), work)), Array(5).fill("duplicate"));
    });

    test("takes an error that only looks like an outage for the handler's", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const results = await inboxOn(database).run("q", messages("a", "peer", "c"), async (message, extra) => {
        if (message.id === "peer") throw new DomainError("unavailable", "DATABASE_UNAVAILABLE", "away");
        await effect(message, extra);
      });
      assert.deepEqual(kinds(results), ["done", "failed", "done"]);
    });

    test("spends no attempt while keys cannot be stored, and is ready when they can", async (t) => {
      const database = await open(t);
      if (database === undefined) return;
      const log = recordLog();
      const inbox = inboxOn(database, { logger: log.logger });
      await sql`alter table ${tableOf(database.db, "inbox_events_1")} rename to hidden`.execute(database.db);
      for (let i = 0; i < 3; i++) {
        assert.deepEqual(kinds(await inbox.run("q", messages("a", "b"), effect)), ["unavailable", "unavailable"]);
      }
      assert.equal(log.matching({ level: "error" }).length, 1);
      const abort = new AbortController();
      const given = new Error("given up");
      const waiting = assert.rejects(inbox.ready(abort.signal), given);
      abort.abort(given);
      await waiting;
      let isReady = false;
      const ready = inbox.ready(AbortSignal.timeout(10_000)).then(() => {
        isReady = true;
      });
      await delay(50);
      assert.equal(isReady, false);
      await sql`alter table ${tableOf(database.db, "hidden")} rename to inbox_events_1`.execute(database.db);
      await ready;
      assert.deepEqual(kinds(await inbox.run("q", messages("a", "b"), effect)), ["done", "done"]);
      assert.equal(await stored(database), 2);
    });
  });
}

/** An inbox behind a proxy, on a PostgreSQL. */
async function behindProxy(t: TestContext) {
  const url = await postgresForTest(t);
  if (url === undefined) return undefined;
  const { hostname, port } = new URL(url);
  const proxy = await startTcpProxy({ host: hostname, port: Number(port) });
  t.after(() => proxy.close());
  const proxied = new URL(url);
  proxied.host = `127.0.0.1:${proxy.port}`;
  const database = await databaseForTest<Tables>(t, {
    migrations,
    url: proxied.href,
    settings: { connect_timeout: "500ms", probe_interval: "100ms" },
  });
  return { database, inbox: inboxOn(database), proxy };
}

test("an outage in the midst of a handler costs no attempt, and nothing overtakes what waits", async (t) => {
  const setup = await behindProxy(t);
  if (setup === undefined) return;
  const { database, inbox, proxy } = setup;
  let calls = 0;
  const work: typeof effect = async (message, extra) => {
    calls++;
    if (message.id === "b" && calls < 4) {
      proxy.refuse();
      throw new Error("an error of the handler's own");
    }
    await effect(message, extra);
  };
  assert.deepEqual(kinds(await inbox.run("q", messages("a", "b", "c"), work)), Array(3).fill("unavailable"));
  assert.equal(calls, 2);
  const ready = inbox.ready(AbortSignal.timeout(20_000));
  proxy.accept();
  await ready;
  calls = 10;
  await until("the database", () => database.ready().then(() => true));
  assert.deepEqual(kinds(await inbox.run("q", messages("a", "b", "c"), work)), Array(3).fill("done"));
  assert.deepEqual(await effects(database), ["a", "b", "c"]);
});

test("sessions that the server ends cost no attempt, unless the handler was idle in it for too long", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const database = await databaseForTest<Tables>(t, { migrations, url });
  const inbox = inboxOn(database);
  let calls = 0;
  const terminated = await inbox.run("q", messages("a"), async (message, extra) => {
    await effect(message, extra);
    if (++calls <= 3) await sql`select pg_terminate_backend(pg_backend_pid())`.execute(extra.tx);
  });
  assert.deepEqual(kinds(terminated), ["done"]);
  let idle = 0;
  const outlived = await inbox.run("q", messages("b"), async (message, extra) => {
    idle++;
    await sql`set local idle_in_transaction_session_timeout = '20ms'`.execute(extra.tx);
    await delay(200);
    await effect(message, extra);
  });
  assert.deepEqual(kinds(outlived), ["failed"]);
  assert.equal(idle, 1);
  assert.deepEqual(await effects(database), ["a"]);
});

/** An inbox whose statements may take 200 ms, and a message that another inbox handles until `end` is called. */
async function besideSlowCopy(t: TestContext, settings: Record<string, unknown> = {}) {
  const url = await postgresForTest(t);
  if (url === undefined) return undefined;
  const database = await databaseForTest<Tables>(t, {
    migrations,
    url,
    settings: { statement_timeout: "200ms", ...settings },
  });
  const begun = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  const slow = inboxOn(database).run("q", messages("b"), async (message, extra) => {
    begun.resolve();
    await end.promise;
    await effect(message, extra);
  });
  await begun.promise;
  return { database, inbox: inboxOn(database), slow, end: end.resolve };
}

test("a copy costs no attempt while its other copy is being handled for longer than a statement may take", async (t) => {
  const setup = await besideSlowCopy(t);
  if (setup === undefined) return;
  const { database, inbox, slow, end } = setup;
  const run = inbox.run("q", messages("a", "b", "c"), effect);
  await delay(1_500);
  end();
  assert.deepEqual(kinds(await run), ["done", "duplicate", "done"]);
  assert.deepEqual(kinds(await slow), ["done"]);
  assert.deepEqual(await effects(database), ["a", "b", "c"]);
});

test("a copy has failed when its other copy is still being handled after the longest time of a handler", async (t) => {
  const setup = await besideSlowCopy(t, { idle_in_transaction_timeout: "2s" });
  if (setup === undefined) return;
  const { inbox, slow, end } = setup;
  assert.deepEqual(kinds(await inbox.run("q", messages("b"), effect)), ["failed"]);
  end();
  assert.deepEqual(kinds(await slow), ["done"]);
});

test("a batch grows to its limit, and shrinks to what fits into a transaction's time", async (t) => {
  const database = await databaseForTest<Tables>(t, { migrations });
  const inbox = inboxOn(database, { batchSize: 40 });
  const transactions: string[] = [];
  const note = async (_: unknown, { tx }: { tx: Transaction<Tables> }) => {
    const { rows } = await sql<{ id: string }>`select txid_current()::text as id`.execute(tx);
    transactions.push(rows[0]!.id);
  };
  await inbox.run("q", messages(...Array.from({ length: 200 }, (_, n) => `${n}`)), note);
  const sizes = [...new Set(transactions)].map((id) => transactions.filter((other) => other === id).length);
  assert.deepEqual(sizes, [10, 20, 40, 40, 40, 40, 10]);
});

test("it asks for no more events at once than have their turn in time, so that slow handlers run beside each other", async (t) => {
  const database = await databaseForTest<Tables>(t, { migrations });
  const inbox = inboxOn(database, { batchSize: 40, batchTimeMs: 50 });
  assert.equal(inbox.batchSize, 10);
  await inbox.run("q", messages("a", "b", "c", "d", "e", "f"), () => delay(30));
  assert.ok(inbox.batchSize <= 4, String(inbox.batchSize));
  await inbox.run("q", messages(...Array.from({ length: 200 }, (_, n) => `${n}`)), async () => {});
  assert.equal(inbox.batchSize, 40);
});

test("keys have 128 bits, and no two events have one", () => {
  assert.match(inboxKey("q", "s", "1"), /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/);
  const parts = ["", "1", "11", "1:1", "é"];
  const keys = parts.flatMap((queue) => parts.flatMap((source) => parts.map((id) => inboxKey(queue, source, id))));
  assert.equal(new Set(keys).size, parts.length ** 3);
});

test("the window derives from the retry delays, and may not be shorter than they are", () => {
  const retry = { delaysMs: [60_000, 120_000], peerOutageMs: 3_600_000 };
  assert.equal(windowOf({ retry }), 14 * 86_400_000 + 3_780_000);
  assert.equal(windowOf({ retry, inboxWindowMs: 4_000_000 }), 4_000_000);
  assert.throws(() => windowOf({ retry, inboxWindowMs: 3_700_000 }), /inbox_window is 3700000 ms/);
  assert.ok(windowOf() > 15 * 86_400_000);
});
