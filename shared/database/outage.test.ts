import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { type Kysely, sql } from "kysely";
import pg from "pg";
import { pino } from "pino";
import { DomainError } from "#shared/errors";
import { createReadiness, type Readiness } from "#shared/lifecycle";
import { closeAfter, databaseConfig, postgresForTest } from "#shared/testing";
import { databaseTimeout } from "./errors.ts";
import { createDatabase, type Database, isOutage, type Migration } from "./index.ts";

interface Tables {
  notes: { title: string };
}

const migrations: Record<string, Migration> = {
  "001_notes": { up: (db) => db.schema.createTable("notes").addColumn("title", "text").execute() },
};
const AWAY = { name: "DomainError", code: "unavailable", reason: "DATABASE_UNAVAILABLE" };

/** A way to PostgreSQL that can be broken: other tests use the server too. */
interface Proxy {
  readonly url: string;
  /** How many connections it has taken so far. */
  accepted(): number;
  /** Cuts every connection; new ones are refused until `restore`. */
  cut(): Promise<void>;
  restore(): Promise<void>;
  /** Connections stay and nothing passes any more; new ones are accepted and not answered. */
  silence(): void;
}

async function proxyTo(t: TestContext, target: string): Promise<Proxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let silent = false;
  let accepted = 0;
  let server: Server | undefined;

  async function listen(at: number): Promise<number> {
    server = createServer((near) => {
      accepted += 1;
      const far = connect(Number(port || 5432), hostname);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(from);
        from.on("data", (chunk) => silent || to.write(chunk));
        from
          .on("error", () => {})
          .on("close", () => {
            sockets.delete(from);
            to.destroy();
          });
      }
    });
    await once(server.listen(at, "127.0.0.1"), "listening");
    return (server.address() as AddressInfo).port;
  }
  async function cut(): Promise<void> {
    const closed = server === undefined ? undefined : once(server.close(), "close");
    server = undefined;
    for (const socket of sockets) socket.destroy();
    await closed;
  }

  const at = await listen(0);
  closeAfter(t, cut);
  const url = new URL(target);
  url.host = `127.0.0.1:${at}`;
  return {
    url: url.href,
    accepted: () => accepted,
    cut,
    async restore() {
      silent = false;
      await listen(at);
    },
    silence() {
      silent = true;
    },
  };
}

interface Running {
  readonly database: Database<Tables>;
  readonly db: Kysely<Tables>;
  readonly readiness: Readiness;
  readonly proxy: Proxy;
  readonly logs: string[];
  /** Past the proxy. */
  readonly direct: (statement: string) => Promise<pg.QueryResult>;
}

async function begin(t: TestContext, settings: Record<string, unknown> = {}): Promise<Running | undefined> {
  const target = await postgresForTest(t);
  if (target === undefined) return undefined;
  const proxy = await proxyTo(t, target);
  const readiness = createReadiness();
  const logs: string[] = [];
  const url = new URL(proxy.url);
  url.password = "s3cret";
  const database = createDatabase<Tables>({
    // No probe comes by itself in these tests unless they say so.
    config: databaseConfig({ url: url.href, probe_interval: "1h", ...settings }),
    schema: "outage",
    migrations,
    logger: pino({ level: "trace" }, { write: (line: string) => logs.push(line) }),
    readiness,
  });
  closeAfter(t, () => database.close());
  async function direct(statement: string): Promise<pg.QueryResult> {
    const client = new pg.Client({ connectionString: target });
    await client.connect();
    return await client.query(statement).finally(() => client.end());
  }
  return { database, db: database.db, readiness, proxy, logs, direct };
}

function becomesReady(readiness: Readiness, ready: boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (readiness.state().ready !== ready) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = readiness.subscribe(look);
    look();
  });
}

async function started(t: TestContext, settings?: Record<string, unknown>): Promise<Running | undefined> {
  const running = await begin(t, settings);
  running?.database.start();
  await running?.database.ready(AbortSignal.timeout(20_000));
  return running;
}

const add = (db: Kysely<Tables>, title: string) => db.insertInto("notes").values({ title }).execute();
const titles = async (db: Kysely<Tables>) =>
  (await db.selectFrom("notes").select("title").orderBy("title").execute()).map((row) => row.title);

test("a database that is away at the start holds nothing up, and is found when it comes", async (t) => {
  const running = await begin(t);
  if (running === undefined) return;
  const { database, db, readiness, proxy } = running;
  await proxy.cut();
  database.start();
  await assert.rejects(titles(db), AWAY);
  while (readiness.state().components[0]?.reason?.includes("ECONNREFUSED") !== true) {
    await new Promise<void>((resolve) => {
      const unsubscribe = readiness.subscribe(() => {
        unsubscribe();
        resolve();
      });
    });
  }
  await assert.rejects(titles(db), AWAY);
  await assert.rejects(
    db.transaction().execute((trx) => titles(trx)),
    AWAY,
  );
  await proxy.restore();
  await database.ready(AbortSignal.timeout(20_000));
  assert.equal(readiness.state().ready, true);
  assert.deepEqual(await titles(db), []);
});

test("an outage that a query meets is seen at once, told, and recovered from", async (t) => {
  const running = await started(t);
  if (running === undefined) return;
  const { db, readiness, proxy } = running;
  await add(db, "before");
  for (let round = 0; round < 3; round++) {
    await proxy.cut();
    await assert.rejects(titles(db), AWAY);
    await becomesReady(readiness, false);
    await assert.rejects(titles(db), AWAY);
    await proxy.restore();
    await becomesReady(readiness, true);
    assert.deepEqual(await titles(db), ["before"]);
  }
});

test("only this process's own database makes an outage, whatever reason an error bears", async (t) => {
  const running = await started(t);
  if (running === undefined) return;
  const { db, database } = running;
  const foreign = new DomainError("unavailable", "DATABASE_UNAVAILABLE", "the peer's database is away");
  assert.equal(isOutage(foreign), false);
  assert.equal(isOutage(databaseTimeout(foreign)), false);
  await database.close();
  assert.equal(isOutage(await titles(db).catch((error: unknown) => error)), true);
});

test("an outage that no query meets is found by the probe", async (t) => {
  const running = await started(t, { probe_interval: "50ms" });
  if (running === undefined) return;
  const { readiness, proxy } = running;
  await proxy.cut();
  await becomesReady(readiness, false);
  await proxy.restore();
  await becomesReady(readiness, true);
});

test("a transaction whose connection breaks between two statements leaves nothing", async (t) => {
  const running = await started(t);
  if (running === undefined) return;
  const { db, readiness, proxy } = running;
  const attempt = db.transaction().execute(async (trx) => {
    await add(trx, "half");
    // Nothing is awaited on the connection: its error must find a listener all the same.
    await proxy.cut();
    await becomesReady(readiness, false);
    await add(trx, "other half");
  });
  await assert.rejects(attempt, AWAY);
  await proxy.restore();
  await becomesReady(readiness, true);
  assert.deepEqual(await titles(db), []);
});

test("a transaction whose connection breaks before its commit leaves nothing and says so", async (t) => {
  const running = await started(t);
  if (running === undefined) return;
  const { db, readiness, proxy } = running;
  const attempt = db.transaction().execute(async (trx) => {
    await add(trx, "whole");
    await proxy.cut();
  });
  await assert.rejects(attempt, AWAY);
  await proxy.restore();
  await becomesReady(readiness, true);
  assert.deepEqual(await titles(db), []);
});

test("a transaction's own error is the one thrown, though its rollback finds no connection", async (t) => {
  const running = await started(t);
  if (running === undefined) return;
  const { db, readiness, proxy } = running;
  const own = new Error("the domain says no");
  const attempt = db.transaction().execute(async (trx) => {
    await add(trx, "half");
    await proxy.cut();
    throw own;
  });
  await assert.rejects(attempt, (error) => error === own);
  await proxy.restore();
  await becomesReady(readiness, true);
  assert.deepEqual(await titles(db), []);
});

test("a backend that the server ends fails its statement, no more", async (t) => {
  const running = await started(t);
  if (running === undefined) return;
  const { db, readiness, direct } = running;
  const terminate = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'meridian-outage'";
  const sleeping = assert.rejects(sql`select pg_sleep(60)`.execute(db), AWAY);
  while ((await direct(`${terminate} and query like '%pg_sleep%'`)).rowCount === 0);
  await sleeping;
  // The idle ones too: no query waits for them, and their end must not end this process.
  await Promise.all(Array.from({ length: 5 }, () => titles(db)));
  await direct(terminate);
  await becomesReady(readiness, true);
  let answer: string[] | undefined;
  while (answer === undefined) {
    answer = await titles(db).catch((error: unknown) => {
      assert.equal((error as { reason?: unknown }).reason, "DATABASE_UNAVAILABLE");
      return undefined;
    });
  }
  assert.deepEqual(answer, []);
});

test("a server that falls silent is given up after the timeouts, and is not waited for twice", async (t) => {
  const running = await started(t, { statement_timeout: "400ms", connect_timeout: "300ms" });
  if (running === undefined) return;
  const { db, readiness, proxy } = running;
  const waited: number[] = [];
  const attempt = db.transaction().execute(async (trx) => {
    await add(trx, "half");
    proxy.silence();
    for (const title of ["other half", "more"]) {
      const began = performance.now();
      await assert.rejects(add(trx, title), AWAY);
      waited.push(performance.now() - began);
    }
    await add(trx, "nothing");
  });
  await assert.rejects(attempt, AWAY);
  assert.ok(waited[0]! >= 690, `${waited[0]} ms: before the server's own timeout`);
  assert.ok(waited[1]! < 690, `${waited[1]} ms`);
  await becomesReady(readiness, false);
  await assert.rejects(titles(db), AWAY);
  await proxy.cut();
  await proxy.restore();
  await becomesReady(readiness, true);
  assert.deepEqual(await titles(db), []);
});

test("a pool that is used up refuses after connect_timeout and is no outage", async (t) => {
  const running = await started(t, { pool_size: 1, connect_timeout: "500ms", probe_interval: "20ms" });
  if (running === undefined) return;
  const { db, readiness, proxy } = running;
  const changes: boolean[] = [];
  readiness.subscribe((state) => changes.push(state.ready));
  await db.transaction().execute(async (trx) => {
    const connections = proxy.accepted();
    // Twice, so that a probe that waited as long as they do would be seen too.
    const busy = { code: "unavailable", reason: "DATABASE_TIMEOUT" };
    await assert.rejects(titles(db), busy);
    await assert.rejects(titles(db), busy);
    assert.deepEqual(await titles(trx), []);
    assert.equal(proxy.accepted(), connections);
  });
  assert.deepEqual(await titles(db), []);
  assert.deepEqual(changes, []);
});

test("closing lets the open transaction end", async (t) => {
  const running = await started(t);
  if (running === undefined) return;
  const { database, db, direct } = running;
  let closing: Promise<void> | undefined;
  await db.transaction().execute(async (trx) => {
    await add(trx, "first");
    closing = database.close();
    await add(trx, "second");
    await assert.rejects(titles(db), AWAY);
  });
  await closing;
  assert.equal((await direct("select from outage.notes")).rowCount, 2);
});

test("closing does not wait for ever for a transaction", async (t) => {
  const running = await started(t);
  if (running === undefined) return;
  const { database, db, direct } = running;
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  const attempt = db.transaction().execute(async (trx) => {
    await add(trx, "half");
    void database.close().then(resolve);
    await closed;
    await add(trx, "other half");
  });
  await assert.rejects(attempt, AWAY);
  assert.equal((await direct("select from outage.notes")).rowCount, 0);
});

test("the password is in no log line and in no readiness", async (t) => {
  const running = await begin(t);
  if (running === undefined) return;
  const { database, db, readiness, proxy, logs, direct } = running;
  const seen: unknown[] = [];
  readiness.subscribe((state) => seen.push(state));
  await proxy.cut();
  database.start();
  const error: unknown = await titles(db).catch((reason: unknown) => reason);
  await proxy.restore();
  await database.ready();
  await direct("alter table outage.notes rename to gone");
  seen.push(await titles(db).catch((reason: unknown) => reason));
  await proxy.cut();
  await titles(db).catch((reason: unknown) => seen.push(reason));
  await becomesReady(readiness, false);
  await database.close();
  assert.ok(logs.length > 1);
  const { inspect } = await import("node:util");
  assert.doesNotMatch(logs.join("\n") + inspect([seen, error], { depth: 9 }), /s3cret/);
});
