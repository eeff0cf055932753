import assert from "node:assert/strict";
import { type Kysely, sql } from "kysely";
import { until } from "#shared/testing";
import type { Tables } from "./shop.ts";

/** What the two logs say of each other. */
export interface Audit {
  readonly committed: number;
  /** Sold and not delivered. */
  readonly lost: readonly string[];
  /** Delivered and never sold. */
  readonly unexpected: readonly string[];
  /** Delivered more than once. */
  readonly duplicated: readonly string[];
}

export async function audit(db: Kysely<Tables>): Promise<Audit> {
  const sales = (await db.selectFrom("sales").select("name").execute()).map(({ name }) => name);
  const effects = (await db.selectFrom("effects").select("name").execute()).map(({ name }) => name);
  const [sold, delivered] = [new Set(sales), new Set(effects)];
  return {
    committed: sales.length,
    lost: sales.filter((name) => !delivered.has(name)),
    unexpected: effects.filter((name) => !sold.has(name)),
    duplicated: [...Map.groupBy(effects, (name) => name)].flatMap(([name, times]) => (times.length > 1 ? [name] : [])),
  };
}

async function undelivered(db: Kysely<Tables>): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`
    select count(*) as count from sales s where not exists (select from effects e where e.name = s.name)`.execute(db);
  return Number(rows[0]?.count);
}

/** Waits until everything that was sold is delivered, and holds that nothing else was, and nothing twice. */
export async function assertDeliveredOnce(db: Kysely<Tables>, expected: number, timeoutMs = 60_000): Promise<void> {
  await until("all that was sold to be delivered", async () => (await undelivered(db)) === 0, timeoutMs).catch(
    () => {},
  );
  assert.deepEqual(await audit(db), { committed: expected, lost: [], unexpected: [], duplicated: [] });
}

/** The same where `dead` have become dead letters, and have no effect. */
export async function assertDeliveredOnceBut(
  db: Kysely<Tables>,
  dead: readonly string[],
  expected: number,
  timeoutMs = 60_000,
): Promise<void> {
  await until("the rest to be delivered", async () => (await undelivered(db)) <= dead.length, timeoutMs).catch(
    () => {},
  );
  const { lost, ...rest } = await audit(db);
  assert.deepEqual(
    { ...rest, lost: lost.toSorted() },
    { committed: expected, lost: dead.toSorted(), unexpected: [], duplicated: [] },
  );
}

/** Holds that each key's effects came in the order of its sales: names are `<key>-<number>`. */
export async function assertOrderPerKey(db: Kysely<Tables>): Promise<void> {
  const last = new Map<string, number>();
  for (const { name } of await db.selectFrom("effects").select("name").orderBy("sequence").execute()) {
    const [key = "", number = ""] = name.split("-");
    assert.ok(Number(number) > (last.get(key) ?? -1), `${name} came after ${key}-${last.get(key)}`);
    last.set(key, Number(number));
  }
}

/** What has been delivered so far, in the order in which it was. */
export async function delivered(db: Kysely<Tables>): Promise<{ readonly name: string; readonly attempt: number }[]> {
  return db.selectFrom("effects").select(["name", "attempt"]).orderBy("sequence").execute();
}
