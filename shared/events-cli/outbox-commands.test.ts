import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { sql } from "kysely";
import { file_testing_v1_testing_events, GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createDatabase, type DatabaseConfig } from "#shared/database";
import { createOutbox, outboxMigration, rabbitmqSection } from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { databaseConfig, postgresForTest, silent, until } from "#shared/testing";
import { type CommandResult, runEventsCommand } from "./command.ts";
import type { EventsSetup } from "./setup.ts";

interface Listed {
  readonly service: string;
  readonly events: readonly {
    readonly id: string;
    readonly state: string;
    readonly key: string;
    readonly type: string;
    readonly lastError: string | null;
  }[];
  readonly next: string | null;
}

const SCHEMA = "shop";

/** An outbox without a relay, and the command on its database. */
async function start(t: TestContext, config: DatabaseConfig) {
  const database = createDatabase({
    config,
    schema: SCHEMA,
    migrations: { "001_outbox": outboxMigration },
    logger: silent,
    readiness: createReadiness(),
  });
  database.start();
  t.after(() => database.close());
  await database.ready(AbortSignal.timeout(20_000));
  const outbox = createOutbox({
    db: database.db,
    bus: { send: async () => {} },
    config: rabbitmqSection.parse({ exchange: "e", queue: "q" }),
    source: "shop",
    logger: silent,
  });
  return {
    database,
    outbox,
    add: (key: string, options: { notBefore?: Date } = {}) =>
      outbox.add(database.db, GreetedSchema, { name: "Ada", message: "Hello" }, { key, ...options }),
  };
}

function commandOn(config: DatabaseConfig) {
  const setup: EventsSetup = {
    services: {
      shop: { rabbitmq: () => undefined, database: () => ({ config, schema: SCHEMA }) },
      gateway: { rabbitmq: () => undefined },
    },
    files: [file_testing_v1_testing_events],
    protoFolder: "/",
  };
  const run = (line: string): Promise<CommandResult> => runEventsCommand(`outbox ${line}`.split(" "), {}, setup);
  async function json<T>(line: string): Promise<T> {
    const { code, stdout, stderr } = await run(`${line} --service shop --json`);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as T;
  }
  return { run, json, list: (more = "") => json<Listed>(`list${more}`) };
}

test("events of an outbox are listed by state and in pages, shown, parked, retried and dropped", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const config = databaseConfig({ url });
  const { add } = await start(t, config);
  const { run, json, list } = commandOn(config);
  assert.equal((await run("list --service shop")).stdout, "no events in the outbox of shop\n");
  for (const key of ["a", "b", "c"]) await add(key);
  await add("later", { notBefore: new Date(Date.now() + 3_600_000) });

  const all = await list();
  assert.deepEqual(
    all.events.map(({ key, state }) => [key, state]),
    [
      ["a", "pending"],
      ["b", "pending"],
      ["c", "pending"],
      ["later", "delayed"],
    ],
  );
  const first = await list(" --limit 2");
  const second = await list(` --limit 3 --after ${first.next}`);
  assert.deepEqual([...first.events, ...second.events], all.events);
  assert.equal(second.next, null);
  assert.deepEqual(
    (await list(" --state delayed")).events.map(({ key }) => key),
    ["later"],
  );

  const [a, b] = all.events;
  const shown = await json<{ readonly key: string; readonly message: { readonly kind: string } }>(`show --id ${a!.id}`);
  assert.deepEqual([shown.key, shown.message.kind], ["a", "event"]);
  const { stdout } = await run(`show --service shop --id ${a!.id}`);
  assert.match(stdout, /message \(testing\.v1\.Greeted\)\n\{\n {2}"name"/);

  assert.deepEqual(await json(`park --id ${a!.id} --reason broken`), { service: "shop", id: a!.id, parked: 1 });
  const [parked] = (await list(" --state parked")).events;
  assert.deepEqual([parked?.id, parked?.lastError], [a!.id, "broken"]);
  assert.match((await run("list --service shop")).stdout, /ID +TYPE +STATE .*\n.* parked .* broken\n/);
  assert.deepEqual(await json("retry --state parked"), { service: "shop", retried: 1 });
  assert.deepEqual((await list(" --state parked")).events, []);
  assert.deepEqual(await json(`drop --id ${b!.id}`), { service: "shop", id: b!.id, dropped: 1 });
  assert.deepEqual(
    (await list()).events.map(({ key }) => key),
    ["a", "c", "later"],
  );
});

test("a parked event that is retried is published by the relay that runs", async (t) => {
  const url = await postgresForTest(t);
  if (url === undefined) return;
  const config = databaseConfig({ url });
  const { add, outbox } = await start(t, config);
  const { json, list } = commandOn(config);
  await add("a");
  const [event] = (await list()).events;
  await json(`park --id ${event!.id}`);
  outbox.start();
  t.after(() => outbox.stop());
  await add("b");
  await until("the other to be published", async () => (await outbox.state()).published === 1);
  await json(`retry --id ${event!.id}`);
  await until("it to be published", async () => (await outbox.state()).published === 2);
  assert.deepEqual((await list()).events, []);
});

describe("a failure ends with 1, and a line that says why", () => {
  async function failure(config: DatabaseConfig, line: string): Promise<string> {
    const { code, stdout, stderr } = await commandOn(config).run(line);
    assert.deepEqual([code, stdout], [1, ""], stderr);
    assert.match(stderr, /^[^\n]+\n$/);
    return stderr;
  }

  test("when there is no such event, or it is in another state", async (t) => {
    const url = await postgresForTest(t);
    if (url === undefined) return;
    const config = databaseConfig({ url });
    const { add } = await start(t, config);
    await add("a");
    const [event] = (await commandOn(config).list()).events;
    assert.match(await failure(config, "show --service shop --id 99"), /no event 99 in the outbox of shop/);
    assert.match(await failure(config, `retry --service shop --id ${event!.id}`), /no event \d+ that can be retried/);
  });

  test("when the database is away, or another process has the embedded one", async (t) => {
    const away = databaseConfig({ url: "postgres://it@127.0.0.1:1/it" });
    assert.match(await failure(away, "list --service shop"), /database of the schema shop: /);
    const folder = await mkdtemp(join(tmpdir(), "meridian-outbox-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const config = databaseConfig({ url: `pglite:${folder}` });
    const { database, add } = await start(t, config);
    await add("a");
    assert.match(await failure(config, "list --service shop"), new RegExp(folder));
    await database.close();
    assert.equal((await commandOn(config).list()).events.length, 1);
  });

  test("when there is no embedded database, which is not made", async () => {
    const none = databaseConfig({ url: "pglite:/nonexistent/data" });
    assert.match(await failure(none, "list --service shop"), /no embedded database at \/nonexistent\/data/);
    const inMemory = databaseConfig({ url: "pglite:memory" });
    assert.match(await failure(inMemory, "list --service shop"), /in the memory of its process/);
  });

  test("when the tables are not there", async (t) => {
    const url = await postgresForTest(t);
    if (url === undefined) return;
    const config = databaseConfig({ url });
    const { database } = await start(t, config);
    await sql`drop table shop.outbox_deferred`.execute(database.db);
    assert.match(await failure(config, "list --service shop"), /outbox_deferred/);
  });
});

describe("a wrong call ends with 64, and names the help", () => {
  const wrong = [
    "list",
    "list --service nobody",
    "list --service gateway",
    "list --service shop --state lost",
    "list --service shop --after x",
    "show --service shop",
    "show --service shop --id x",
    "park --service shop",
    "retry --service shop",
    "retry --service shop --id 1 --state parked",
    "drop --service shop --all",
  ];
  for (const line of wrong) {
    test(`events outbox ${line}`, async () => {
      const { code, stderr } = await commandOn(databaseConfig({ url: "postgres://it@127.0.0.1:1/it" })).run(line);
      assert.equal(code, 64, stderr);
      assert.match(stderr, /^.+\nusage: npm run events -- --help\n$/);
    });
  }
});
