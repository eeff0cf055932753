import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Kysely, sql } from "kysely";
import { pino } from "pino";
import { isInEmbeddedTransaction } from "#shared/call-context";
import { createReadiness } from "#shared/lifecycle";
import { closeAfter, databaseConfig } from "#shared/testing";
import { createEmbedded } from "./embedded.ts";
import { lockFolder } from "./folder-lock.ts";
import { createDatabase, type Database, type Embedded, inTransaction, type Migration, openEmbedded } from "./index.ts";

interface Tables {
  books: { title: string };
}

const migrations: Record<string, Migration> = {
  "001_books": { up: (db) => db.schema.createTable("books").addColumn("title", "text").execute() },
};

function databaseOn(t: TestContext, schema: string, where: { embedded: Embedded } | { url: string }): Database<Tables> {
  const database = createDatabase<Tables>({
    config: databaseConfig({ url: "url" in where ? where.url : "pglite:memory" }),
    schema,
    migrations,
    logger: pino({ level: "silent" }),
    readiness: createReadiness(),
    ...("embedded" in where && where),
  });
  closeAfter(t, () => database.close());
  database.start();
  return database;
}

const titles = async ({ db }: Database<Tables>) =>
  (await db.selectFrom("books").select("title").orderBy("title").execute()).map((row) => row.title);
const add = ({ db }: { db: Kysely<Tables> }, title: string) => db.insertInto("books").values({ title }).execute();

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "meridian-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test("services share one session without mixing", async (t) => {
  const embedded = createEmbedded("memory", 200);
  t.after(() => embedded.close());
  const [user, book, order, other] = ["user", "book", "order", "other"].map((schema) =>
    databaseOn(t, schema, { embedded }),
  ) as [Database<Tables>, Database<Tables>, Database<Tables>, Database<Tables>];
  const all = [user, book, order, other];
  await Promise.all(all.map((database) => database.ready()));

  await t.test("each has its own schema", async () => {
    await Promise.all(all.map((database, index) => add(database, `of ${index}`)));
    assert.deepEqual(await Promise.all(all.map(titles)), [["of 0"], ["of 1"], ["of 2"], ["of 3"]]);
  });

  await t.test("one's query is no part of another's transaction", async () => {
    let outside: Promise<unknown> | undefined;
    const attempt = user.db.transaction().execute(async (trx) => {
      await add({ db: trx }, "rolled back");
      outside = add(book, "stays");
      throw new Error("on purpose");
    });
    await assert.rejects(attempt, { message: "on purpose" });
    await outside;
    assert.deepEqual([await titles(user), await titles(book)], [["of 0"], ["of 1", "stays"]]);
  });

  await t.test("a query past the open transaction is refused after a while, for ever it would wait", async () => {
    await user.db.transaction().execute(async () => {
      await assert.rejects(titles(order), { code: "unavailable", reason: "DATABASE_TIMEOUT" });
    });
    assert.deepEqual(await titles(order), ["of 2"]);
  });

  await t.test("code in a transaction knows that it holds the session, other code does not", async () => {
    const seen = await user.db.transaction().execute(async (trx) => {
      return [isInEmbeddedTransaction(), await inTransaction(trx, async () => isInEmbeddedTransaction())];
    });
    const chosen = await user.db
      .transaction()
      .setIsolationLevel("read committed")
      .execute(async () => isInEmbeddedTransaction());
    assert.deepEqual([...seen, chosen, isInEmbeddedTransaction()], [true, true, true, false]);
  });

  await t.test("closing one leaves it open for the rest, closing it waits for the open transaction", async () => {
    await other.close();
    await assert.rejects(titles(other), { reason: "DATABASE_UNAVAILABLE" });
    let closing: Promise<void> | undefined;
    await user.db.transaction().execute(async (trx) => {
      await add({ db: trx }, "before the end");
      closing = embedded.close();
      await add({ db: trx }, "at the end");
    });
    await closing;
    await assert.rejects(titles(book), { reason: "DATABASE_UNAVAILABLE" });
    await assert.rejects(
      user.db.transaction().execute(async () => {}),
      { reason: "DATABASE_UNAVAILABLE" },
    );
  });
});

test("data survives a restart, and the folder is free after it", async (t) => {
  const folder = join(temporaryFolder(t), "is", "made", "data");
  const url = `pglite:${folder}`;
  const first = databaseOn(t, "book", { url });
  await first.ready();
  await add(first, "Dune");
  await assert.rejects(openEmbedded(url), (error: Error) => {
    return error.message.includes(folder) && error.message.includes(String(process.pid));
  });
  await first.close();
  assert.equal(existsSync(`${folder}.lock`), false);

  const embedded = await openEmbedded(url);
  t.after(() => embedded.close());
  const second = databaseOn(t, "book", { embedded });
  await second.ready();
  assert.deepEqual(await titles(second), ["Dune"]);
});

test("a second process is told who has the folder, and takes it over when that one was killed", async (t) => {
  const folder = join(temporaryFolder(t), "data");
  const script = `
    import { Kysely, sql } from "kysely";
    import { openEmbedded } from "./index.ts";
    const db = new Kysely({ dialect: (await openEmbedded("pglite:" + process.argv[1])).createDialect("public", () => {}) });
    await sql\`create table books (title text)\`.execute(db);
    await sql\`insert into books values ('kept')\`.execute(db);
    console.log("written");
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, folder], {
    cwd: import.meta.dirname,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = once(child, "exit");
  t.after(() => child.kill("SIGKILL"));
  assert.match(String(await once(child.stdout, "data")), /written/);

  await assert.rejects(openEmbedded(`pglite:${folder}`), (error: Error) => {
    return error.message.includes(folder) && error.message.includes(`process ${child.pid}`);
  });
  child.kill("SIGKILL");
  await exited;
  const embedded = await openEmbedded(`pglite:${folder}`);
  t.after(() => embedded.close());
  const db = new Kysely<unknown>({ dialect: embedded.createDialect("public", () => {}) });
  assert.deepEqual((await sql`select title from books`.execute(db)).rows, [{ title: "kept" }]);
});

test("what is not an embedded database's URL is refused", async () => {
  await assert.rejects(openEmbedded("postgres://127.0.0.1/x"), TypeError);
});

test("a lock keeps the folder until it is released", (t) => {
  const folder = join(temporaryFolder(t), "data");
  const lock = lockFolder(folder);
  assert.throws(() => lockFolder(folder), { message: new RegExp(`in use by this process \\(${process.pid}\\)`) });
  lock.release();
  lock.release();
  lockFolder(folder).release();
  assert.deepEqual(readdirSync(join(folder, "..")), []);
});

test("a lock with this process's id that it does not hold is an earlier process's: taken over", (t) => {
  const folder = join(temporaryFolder(t), "data");
  writeFileSync(`${folder}.lock`, JSON.stringify({ pid: process.pid }));
  const lock = lockFolder(folder);
  assert.equal(JSON.parse(readFileSync(`${folder}.lock`, "utf8")).pid, process.pid);
  lock.release();
  assert.deepEqual(readdirSync(join(folder, "..")), []);
});

test("a lock whose process id is another process's by now is taken over", {
  skip: !existsSync("/proc/self/stat") && "needs /proc",
}, (t) => {
  const folder = join(temporaryFolder(t), "data");
  writeFileSync(`${folder}.lock`, JSON.stringify({ pid: process.ppid, began: "1" }));
  lockFolder(folder).release();
});

test("a lock of a process that lives is respected", (t) => {
  const folder = join(temporaryFolder(t), "data");
  writeFileSync(`${folder}.lock`, JSON.stringify({ pid: process.ppid }));
  assert.throws(() => lockFolder(folder), { message: new RegExp(`in use by process ${process.ppid}`) });
  assert.deepEqual(readdirSync(join(folder, "..")), ["data.lock"]);
});

test("a file that is no lock of ours is not taken away", (t) => {
  const folder = join(temporaryFolder(t), "data");
  for (const content of ["", "{}", '{"pid":0}', "precious"]) {
    writeFileSync(`${folder}.lock`, content);
    assert.throws(() => lockFolder(folder), { message: /not a lock file of ours/ });
    assert.equal(readFileSync(`${folder}.lock`, "utf8"), content);
  }
});
