// From the previous release to this one, with what that one has left behind, and back.

import assert from "node:assert/strict";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, type TestContext, test } from "node:test";
import { Kysely, PostgresDialect, sql } from "kysely";
import pg from "pg";
import { openBroker, redriveDeadLetters } from "#shared/events-cli";
import { closeAfter, until, within } from "#shared/testing";
import { releaseForTest } from "../support/release.ts";
import { killPrograms, type Program, repository } from "../support/service-process.ts";
import { assertDeliveredOnce } from "./support/audit.ts";
import type { Shop, Tables } from "./support/shop.ts";
import { enterWorld, type World } from "./support/world.ts";

after(killPrograms);

/** The last commit whose tables, queues and messages are those of version 0.1. */
const PREVIOUS_RELEASE = "9a5edc5a13e9f1df47e908844b4e0e0ce4dceab5";

const RETRY_DELAYS = ["2s", "100ms"];
const START_TIMEOUT_MS = 60_000;

test("an upgrade beside running replicas, a roll-back and the upgrade again: nothing is lost, and nothing is applied twice", async (t) => {
  const previous = await previousRelease(t);
  if (previous === undefined) return;
  const world = await enterWorld(t, {}, RETRY_DELAYS);
  if (world === undefined) return;
  const db = openTables(t, world.databaseUrl);
  const old = (work: Parameters<World["worker"]>[0], leaseMs = 500) =>
    world.worker(work, { log: "warn", outbox: { leaseMs } }, previous);
  const fresh = (work: Parameters<World["worker"]>[0]) => world.worker(work, { log: "warn" });
  const service = { relay: true, deliver: true };
  // Until the process ends.
  const load = (...keys: string[]) => ({ keys, count: Number.MAX_SAFE_INTEGER, pauseMs: 20 });

  await leaveBehind(world, db, old);

  const first = old({ ...service, sell: load("a0", "a1") });
  await moreEffects(db, "a", first);
  const second = fresh({ ...service, failures: 1, sell: load("b0", "b1") });
  await moreEffects(db, "b", second);
  await moreEffects(db, "a", first);
  await end(first, "SIGTERM");
  // What an old replica has handled and not acknowledged comes to the new one.
  await dies(old({ ...service, sell: load("c0"), dieAt: "effect committed" }));

  const third = old({ ...service, sell: load("d0", "d1") });
  await moreEffects(db, "d", third);
  await end(second, "SIGKILL");
  // And the other way round.
  await dies(fresh({ ...service, sell: load("e0"), dieAt: "effect committed" }));
  await dies(fresh({ relay: true, sell: load("f0"), dieAt: "confirmed", after: 5 }));

  const fourth = fresh({ ...service, sell: load("g0", "g1") });
  await moreEffects(db, "g", fourth);
  await end(third, "SIGKILL");

  const last = world.shop();
  const consumer = last.deliver();
  await last.start();
  await consumer.start();
  last.outbox.start();
  await end(fourth, "SIGTERM");
  await redriveAll(world);
  await assertDeliveredOnce(db, await countSales(db), 120_000);
  await assertNothingWaits(world, last);
});

/** The previous release, with the present worker on its shop, which sells the event that the present one does. */
async function previousRelease(t: TestContext): Promise<string | undefined> {
  const folder = await releaseForTest(t, PREVIOUS_RELEASE, ["gen", "shared", "test/faults/support"]);
  if (folder === undefined) return undefined;
  const support = "test/faults/support";
  await copyFile(join(repository, support, "worker.ts"), join(folder, support, "worker.ts"));
  const shop = join(folder, support, "shop.ts");
  const text = await readFile(shop, "utf8");
  const sameEvent = text
    .replaceAll("UserGreetedSchema", "GreetedSchema")
    .replaceAll("user.v1.UserGreeted", "testing.v1.Greeted")
    .replace(
      "#gen/user/v1/user_events_pb.ts",
      new URL("../../gen/testing/v1/testing_events_pb.ts", import.meta.url).href,
    );
  await writeFile(shop, sameEvent);
  return folder;
}

/** Without migrations: the previous release is to make the tables. */
function openTables(t: TestContext, connectionString: string): Kysely<Tables> {
  const pool = new pg.Pool({ connectionString, options: "-c search_path=shop", max: 2 });
  pool.on("error", () => {}); // A query rejects.
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  closeAfter(t, () => db.destroy());
  return db;
}

/**
 * Makes tables, queues and rows as the previous release does: a dead letter; events in the outbox, some of them published,
 * under the lease of a relay that was killed; one that failed; messages in a retry queue; ids in the inbox whose messages
 * were not acknowledged.
 */
async function leaveBehind(
  world: World,
  db: Kysely<Tables>,
  old: (work: Parameters<World["worker"]>[0], leaseMs?: number) => Program,
): Promise<void> {
  const { queue } = world;
  const poisoned = old({ relay: true, deliver: true, failures: 99, sell: { keys: ["dead"], count: 1 } });
  await poisoned.line(/^consuming/);
  await until("a dead letter", async () => (await world.count(`${queue}.dead`)) === 1, START_TIMEOUT_MS);
  await end(poisoned, "SIGTERM");

  const seller = old({ sell: { keys: ["x", "y", "z"], count: 40 } });
  await seller.line(/^sold/);
  await end(seller, "SIGTERM");
  await dies(old({ relay: true, dieAt: "confirmed", after: 60 }, 5_000));
  // As its relay writes it.
  await sql`
    update outbox set attempts = 3, last_error = 'refused', not_before = now() + interval '5 seconds'
    where id = (select max(id) - 10 from outbox)`.execute(db);

  const retrying = old({ deliver: true, failures: 1 });
  const putAside = async () => (await world.count(`${queue}.retry.${RETRY_DELAYS[0]}`)) >= 5;
  await until("messages in the retry queue", putAside, START_TIMEOUT_MS);
  await end(retrying, "SIGKILL");
  await dies(old({ deliver: true, dieAt: "effect committed" }));

  const { rows } = await sql<Record<string, boolean>>`
    select exists (select from outbox) as outbox, exists (select from outbox where attempts > 0) as failed,
           exists (select from outbox_shards where lease is not null) as lease, exists (select from inbox) as inbox
  `.execute(db);
  assert.deepEqual(rows, [{ outbox: true, failed: true, lease: true, inbox: true }]);
}

async function countSales(db: Kysely<Tables>): Promise<number> {
  return (await db.selectFrom("sales").select("name").execute()).length;
}

/** Waits until more of what has been sold by a process, whose keys begin so, is delivered. */
async function moreEffects(db: Kysely<Tables>, prefix: string, seller: Program): Promise<void> {
  const count = async () =>
    (await db.selectFrom("effects").select("name").where("name", "like", `${prefix}%`).execute()).length;
  const enough = (await count()) + 25;
  await until(`effects of ${prefix}`, async () => (await count()) >= enough, START_TIMEOUT_MS).catch((error) => {
    throw new Error(`${error}: ${seller.stderr()}${seller.stdout.slice(-20).join("\n")}`);
  });
}

async function dies(program: Program): Promise<void> {
  assert.equal(await within(program.exit, "a process to die", START_TIMEOUT_MS), "SIGKILL", program.stderr());
}

async function end(program: Program, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
  assert.equal(await program.end(signal), signal === "SIGTERM" ? 0 : signal, program.stderr());
}

async function redriveAll({ url, queue }: World): Promise<void> {
  const broker = await openBroker(url);
  try {
    const { done } = await redriveDeadLetters(broker, { queue });
    assert.ok(done > 0, "no dead letter was left");
  } finally {
    await broker.close(5_000);
  }
}

async function assertNothingWaits(world: World, shop: Shop): Promise<void> {
  await until("an empty outbox", async () => (await shop.outbox.state()).pending === 0);
  for (const suffix of ["", ".dead", ...RETRY_DELAYS.map((delay) => `.retry.${delay}`)]) {
    await until(`an empty queue ${suffix}`, async () => (await world.count(world.queue + suffix)) === 0);
  }
}
