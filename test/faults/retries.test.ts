// What fails, what comes twice, and what becomes a dead letter.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { sql } from "kysely";
import type { Envelope } from "rabbitmq-client";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { RejectedEventError } from "#shared/event-bus";
import { recordLog, until, within } from "#shared/testing";
import { repository } from "../support/service-process.ts";
import { assertDeliveredOnce, assertDeliveredOnceBut, delivered } from "./support/audit.ts";
import type { Shop } from "./support/shop.ts";
import { enterWorld, type World } from "./support/world.ts";

const EVENT: Envelope = {
  routingKey: "testing.greeted",
  type: "testing.v1.Greeted",
  contentType: "application/protobuf",
};

function bodyOf(name: string): Buffer {
  return Buffer.from(toBinary(GreetedSchema, create(GreetedSchema, { name })));
}

const countsOf = (shop: Shop) => shop.bus.states().consumers[0]!.counts;
const isConsuming = (shop: Shop) => shop.bus.states().consumers[0]!.state === "consuming";

async function twoConsumersOfOneId(world: World, handle: (nth: number) => Promise<void>) {
  let handled = 0;
  const shops = [world.shop(), world.shop()];
  const consumers = shops.map((shop) => shop.deliver(() => handle(++handled)));
  for (const shop of shops) await shop.start();
  for (const consumer of consumers) await consumer.start();
  await until("both to consume", () => shops.every(isConsuming));
  const [{ database }] = shops as [Shop, Shop];
  await database.db.insertInto("sales").values({ name: "one" }).execute();
  const messageId = "01a212f8-8a7e-764e-9b1f-73374d3657aa";
  for (let copy = 0; copy < 2; copy++) await world.publish({ ...EVENT, messageId }, bodyOf("one"));
  // The one has stored the id and not committed it, the other waits for what becomes of it.
  await until("both to be at it", async () => {
    const { rows } = await sql`
      select from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and query like '%into %inbox_events%'`.execute(
      database.db,
    );
    return rows.length === 1 && shops.every((shop) => shop.bus.states().consumers[0]!.waiting === 1);
  });
  const sum = (name: "handled" | "duplicates" | "retried") =>
    shops.reduce((total, shop) => total + countsOf(shop)[name], 0);
  return { db: database.db, sum, handled: () => handled };
}

test("11: of one id that two consumers have at once, one has the effect", async (t) => {
  const world = await enterWorld(t, { prefetch: 1, concurrency: 1 });
  if (world === undefined) return;
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const { db, sum, handled } = await twoConsumersOfOneId(world, () => gate);
  assert.equal(handled(), 1);
  open();
  await until("both to be answered", () => sum("handled") + sum("duplicates") === 2);
  assert.equal(sum("duplicates"), 1);
  assert.equal(handled(), 1);
  await assertDeliveredOnce(db, 1);
});

test("11: of one id that two consumers have at once, the other has the effect when the first fails", async (t) => {
  const world = await enterWorld(t, { prefetch: 1, concurrency: 1 });
  if (world === undefined) return;
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const { db, sum, handled } = await twoConsumersOfOneId(world, async (nth) => {
    if (nth > 1) return;
    await gate;
    throw new Error("the first fails");
  });
  open();
  // The retry of the first is the third delivery.
  await until("all to be answered", () => sum("handled") + sum("duplicates") + sum("retried") === 3);
  assert.deepEqual([sum("handled"), sum("retried"), sum("duplicates")], [1, 1, 1]);
  assert.equal(handled(), 2);
  await assertDeliveredOnce(db, 1);
});

test("12: a handler that throws gets the event after each of the delays, then it is a dead letter that says why", async (t) => {
  const world = await enterWorld(t, {}, ["100ms", "300ms", "200ms"]);
  if (world === undefined) return;
  const shop = world.shop();
  /** By name and attempt: a batch that fails is handled once more, one by one, and that is the same attempt. */
  const times = new Map<string, { first: number; last: number }[]>();
  const consumer = shop.deliver((name, { attempt }) => {
    const now = performance.now();
    const attempts = times.get(name) ?? [];
    times.set(name, attempts);
    attempts[attempt] = { first: attempts[attempt]?.first ?? now, last: now };
    const [, failures] = name.split(" ");
    if (attempt <= Number(failures)) throw new Error(`attempt ${attempt} of ${name}`);
  });
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  for (let failures = 0; failures <= 4; failures++) {
    for (const who of ["a", "b"]) await shop.sell(`${who} ${failures}`, who);
  }
  await until("the dead letters", () => countsOf(shop).deadLettered === 2);
  await assertDeliveredOnceBut(shop.database.db, ["a 4", "b 4"], 10);
  for (const { name, attempt } of await delivered(shop.database.db)) {
    assert.equal(attempt, Number(name.split(" ")[1]) + 1, name);
  }
  for (const [name, attempts] of times) {
    assert.equal(attempts.length - 1, Math.min(Number(name.split(" ")[1]) + 1, 4), name);
    for (const [n, delayMs] of [100, 300, 200].entries()) {
      const [before, next] = [attempts[n + 1], attempts[n + 2]];
      if (before === undefined || next === undefined) break;
      // The broker's clock and ours tick in milliseconds.
      assert.ok(next.first - before.last >= delayMs - 2, `${name}: ${next.first - before.last} ms, not ${delayMs}`);
    }
  }
  const letters = await world.takeDeadLetters();
  assert.deepEqual(letters.map(({ body }) => nameIn(body as Buffer)).sort(), ["a 4", "b 4"]);
  for (const { headers, body, contentType, type } of letters) {
    const name = nameIn(body as Buffer);
    assert.equal(headers?.["x-dead-letter-reason"], "attempts_exhausted");
    assert.equal(headers?.["x-dead-letter-error"], `Error: attempt 4 of ${name}`);
    assert.equal(headers?.["x-attempt"], 4);
    assert.equal(headers?.["x-origin-exchange"], world.exchange);
    assert.equal(headers?.["x-origin-routing-key"], "testing.greeted");
    assert.equal(headers?.["cloudEvents:partitionkey"], name[0]);
    assert.deepEqual([contentType, type], [EVENT.contentType, EVENT.type]);
  }
});

test("13: what cannot be read is a dead letter as it came, what is of an unknown type is acknowledged with a warning, and the rest flows", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const log = recordLog();
  const shop = world.shop({ logger: log.logger });
  const consumer = shop.deliver();
  await shop.start();
  await consumer.start();
  shop.outbox.start();
  const json = "application/json";
  const unreadable: Record<string, [Envelope, Buffer]> = {
    "not protobuf": [EVENT, Buffer.from([0xff, 0xff, 0x00])],
    "cut off": [EVENT, bodyOf("somebody").subarray(0, 5)],
    "no type": [{ ...EVENT, type: "" }, bodyOf("somebody")],
    "not JSON": [{ ...EVENT, contentType: json }, Buffer.from('{"name": "some')],
    "JSON of another shape": [{ ...EVENT, contentType: json }, Buffer.from('{"name":17}')],
    "JSON of no type": [{ ...EVENT, type: "", contentType: json }, Buffer.from('{"name":"somebody"}')],
    "JSON that is no object": [{ ...EVENT, contentType: json }, Buffer.from("null")],
    "another content": [{ ...EVENT, contentType: "text/plain" }, Buffer.from("somebody")],
    "no content type": [{ ...EVENT, contentType: "" }, bodyOf("somebody")],
    nothing: [{ ...EVENT, contentType: json }, Buffer.alloc(0)],
  };
  const unknown: Record<string, [Envelope, Buffer]> = {
    "testing.v1.Forgotten": [{ ...EVENT, type: "testing.v1.Forgotten" }, Buffer.from([0xff])],
    "testing.forgotten": [{ ...EVENT, type: "", contentType: json }, Buffer.from('{"type":"testing.forgotten"}')],
  };
  let sold = 0;
  for (const [messageId, [envelope, body]] of Object.entries({ ...unreadable, ...unknown })) {
    await shop.sell(`k-${sold++}`, "k");
    await world.publish({ ...envelope, messageId }, body);
  }
  await assertDeliveredOnce(shop.database.db, sold);
  const { length: dead } = Object.keys(unreadable);
  await until("all to be answered", () => {
    return countsOf(shop).deadLettered === dead + 2;
  });
  const letters = await world.takeDeadLetters();
  const all = { ...unreadable, ...unknown };
  assert.deepEqual(letters.map(({ messageId }) => messageId).sort(), Object.keys(all).sort());
  for (const { messageId = "", headers, body, type, contentType } of letters) {
    const [envelope, sent] = all[messageId]!;
    const reason = messageId in unknown ? "unknown_type" : "undecodable";
    assert.equal(headers?.["x-dead-letter-reason"], reason, messageId);
    assert.deepEqual([type ?? "", contentType ?? ""], [envelope.type, envelope.contentType], messageId);
    assert.deepEqual(bytesOf(body), sent, messageId);
  }
  await consumer.close();
  assert.equal(await world.count(), 0);
});

/** rabbitmq-client parses text and JSON. */
function bytesOf(body: unknown): Buffer {
  if (Buffer.isBuffer(body)) return body;
  return Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
}

function nameIn(body: Buffer): string {
  return fromBinary(GreetedSchema, body).name;
}

/** `npm run events -- dead-letters redrive`, killed after the test at the latest. */
function redrive(t: TestContext, { queue, url }: World): ChildProcess {
  const args = ["services/events.ts", "dead-letters", "redrive", "--queue", queue, "--url", url];
  const child = spawn(process.execPath, args, { cwd: repository, stdio: ["ignore", "ignore", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  return child;
}

async function exitOf(child: ChildProcess): Promise<number | NodeJS.Signals> {
  const [code, signal] = await within(once(child, "close"), "the end of a redrive", 60_000);
  return code ?? signal;
}

test("23: dead letters that are re-driven again after a re-drive was killed midway: each is effective once, and none is gone", async (t) => {
  const world = await enterWorld(t);
  if (world === undefined) return;
  const COUNT = 1_000;
  const broken = world.shop();
  const rejecting = broken.deliver(() => {
    throw new RejectedEventError("a fault of ours");
  });
  await broken.start();
  await rejecting.start();
  broken.outbox.start();
  for (let n = 0; n < COUNT; n += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, i) => broken.sell(`k${(n + i) % 7}-${n + i}`)));
  }
  await until("all to be dead", () => countsOf(broken).deadLettered === COUNT, 60_000);
  await rejecting.close();
  const { db } = broken.database;
  assert.deepEqual(await delivered(db), []);

  // Nobody consumes yet: what is in the queue has been re-driven.
  const first = redrive(t, world);
  await until("it to have begun", async () => (await world.count()) > 0, 30_000);
  first.kill("SIGKILL");
  assert.equal(await exitOf(first), "SIGKILL");
  const dead = `${world.queue}.dead`;
  await until("what it had to be back", async () => (await world.count(dead)) + (await world.count()) >= COUNT);
  const [moved, left] = [await world.count(), await world.count(dead)];
  assert.ok(moved > 0 && left > 0, `${moved} moved, ${left} left`);

  const repaired = world.shop();
  const consumer = repaired.deliver();
  await repaired.start();
  await consumer.start();
  // Two at once share what is left.
  assert.deepEqual(await Promise.all([redrive(t, world), redrive(t, world)].map(exitOf)), [0, 0]);
  await assertDeliveredOnce(db, COUNT);
  assert.equal(await world.count(dead), 0);
  await until("the queue to be empty", async () => (await world.count()) === 0);
  const { handled, duplicates } = countsOf(repaired);
  assert.equal(handled, COUNT);
  // At least: what the killed re-drive had in hand may have come back later than it was counted.
  assert.ok(duplicates >= moved + left - COUNT, `${duplicates} duplicates of ${moved + left - COUNT}`);
});
