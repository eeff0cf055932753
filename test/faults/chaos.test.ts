// Faults at random, many at once. `CHAOS_SEED=7` replays one schedule, `CHAOS_SEEDS=100` runs as many.

import assert from "node:assert/strict";
import process from "node:process";
import { after, test } from "node:test";
import type { Kysely } from "kysely";
import { postgresForTest } from "#shared/testing";
import { privateBrokerForFile } from "../support/private-broker.ts";
import { killPrograms } from "../support/service-process.ts";
import type { Tables } from "./chaos/orders.ts";
import { runSchedule } from "./chaos/run.ts";
import { createSchedule, variantOf } from "./chaos/schedule.ts";

after(killPrograms);

const one = process.env["CHAOS_SEED"];
const seeds =
  one === undefined
    ? Array.from({ length: Number(process.env["CHAOS_SEEDS"] ?? 10) }, (_, index) => index + 1)
    : [Number(one)];

const broker = privateBrokerForFile();

for (const seed of seeds) {
  const variant = variantOf(seed);
  const order = variant === "ordered" ? ", and each key's order is kept" : "";
  test(`chaos, seed ${seed} (${variant}): nothing is lost, nothing is applied twice, every order settles${order}`, async (t) => {
    const node = await broker(t);
    const databaseUrl = node && (await postgresForTest(t));
    if (node === undefined || databaseUrl === undefined) return;
    t.diagnostic(`CHAOS_SEED=${seed} replays it`);
    const run = await runSchedule(t, seed, node, databaseUrl);
    try {
      assert.deepEqual(run.faults, []);
      const orders = await assertEachOnce(run.db);
      t.diagnostic(`${orders} orders, ${run.deadLetters.length} dead letters re-driven`);
      const expected = variant === "ordered" ? [] : ["unknown_type"];
      assert.deepEqual(
        run.deadLetters.filter((reason) => !expected.includes(reason)),
        [],
        "dead letters",
      );
      if (variant === "ordered") await assertOrderPerKey(run.db);
    } catch (error) {
      const schedule = createSchedule(seed).map((step) => JSON.stringify(step));
      t.diagnostic([`CHAOS_SEED=${seed}`, ...schedule, run.log()].join("\n"));
      throw error;
    }
  });
}

/** Each order has had each of its effects, once, and is no longer pending. @returns how many there are */
async function assertEachOnce(db: Kysely<Tables>): Promise<number> {
  const orders = await db.selectFrom("orders").select(["name", "status"]).execute();
  const effects = await db.selectFrom("effects").select(["name", "effect"]).execute();
  const expected = orders.flatMap(({ name }) => ["confirmed", "reserved", "timed out"].map((it) => `${name} ${it}`));
  const actual = effects.map(({ name, effect }) => `${name} ${effect}`);
  const had = new Set(actual);
  const known = new Set(expected);
  assert.ok(orders.length > 0, `${orders.length} orders`);
  assert.deepEqual(
    {
      lost: expected.filter((effect) => !had.has(effect)),
      unexpected: actual.filter((effect) => !known.has(effect)),
      twice: actual.filter((effect, index) => actual.indexOf(effect) !== index),
      pending: orders.filter(({ status }) => status === "pending"),
    },
    { lost: [], unexpected: [], twice: [], pending: [] },
  );
  return orders.length;
}

/** Of each key the orders are reserved and confirmed as they were placed. */
async function assertOrderPerKey(db: Kysely<Tables>): Promise<void> {
  const last = new Map<string, number>();
  const effects = await db.selectFrom("effects").select(["name", "effect"]).orderBy("sequence").execute();
  for (const { name, effect } of effects) {
    if (effect === "timed out") continue; // Without a key.
    const [key = "", number = ""] = name.split("-");
    const of = `${effect} ${key}`;
    assert.ok(Number(number) > (last.get(of) ?? -1), `${name} was ${effect} after ${key}-${last.get(of)}`);
    last.set(of, Number(number));
  }
}
