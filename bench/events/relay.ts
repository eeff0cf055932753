import { setTimeout as delay } from "node:timers/promises";
import { sql } from "kysely";
import { createOutbox, type EventBus, type Outbox } from "#shared/event-bus";
import { compareCpu, compareRates } from "../support/compare.ts";
import type { Result } from "../support/results.ts";
import { inRounds } from "../support/rounds.ts";
import { type Measurement, startStopwatch } from "../support/stopwatch.ts";
import { within } from "../support/within.ts";
import { createEvent, EventSchema, KEYS, keyOf } from "./event.ts";
import { assertEachInOrder } from "./order.ts";
import type { Plan } from "./plan.ts";
import { confirmed, openBare } from "./publish.ts";
import type { Stage } from "./stage.ts";

const LONGEST_MS = 60_000;
const LOOK_EVERY_MS = 2;
const BARE_MS = 1_000;

/**
 * Measures how fast one worker empties a full outbox, beside the bare client's confirmed publish with 1,000 in flight.
 * Checks what is in the queue then, and each key's order.
 */
export async function measureRelay(stage: Stage, { relay }: Plan): Promise<Result[]> {
  const bare = openBare(stage);
  try {
    const measured = await inRounds(
      relay.rounds,
      { bare: () => confirmed(stage, 1_000, BARE_MS, bare.send), ours: () => emptied(stage, relay.events) },
      relay.limitMs,
    );
    const name = `outbox relay, one worker, ${KEYS} keys`;
    const budget = { of: "ratio", atLeast: 0.7 } as const;
    return [
      { name, unit: "events/s", ...compareRates(measured.ours, measured.bare), budget },
      { name: `${name}: CPU`, unit: "µs/event", ...compareCpu(measured.ours, measured.bare) },
    ];
  } finally {
    await bare.close();
  }
}

async function emptied(stage: Stage, events: number): Promise<Measurement> {
  const { bus, config, db, logger } = stage;
  const handedOver = watchSends(bus, events);
  const outbox = createOutbox({ db, bus: handedOver, config, source: "bench", logger });
  await fill(stage, outbox, events / KEYS);
  const stopwatch = startStopwatch();
  outbox.start();
  try {
    const work = handedOver.all.then(() => untilEmpty(stage));
    await within(LONGEST_MS, `relaying ${events} events`, work);
    const measurement = stopwatch.stop(events);
    await assertEachInOrder(stage, events);
    return measurement;
  } finally {
    await outbox.stop();
  }
}

/**
 * Adds one real event of each key, and copies its row in one statement. The ids of the copies are numbers that rise within
 * a key.
 */
async function fill({ db }: Stage, outbox: Outbox, copies: number): Promise<void> {
  await db.transaction().execute(async (tx) => {
    for (let index = 0; index < KEYS; index++) {
      await outbox.add(tx, EventSchema, createEvent(), { key: keyOf(index) });
    }
    const columns = sql.raw("type, source, time, routing_key, must_be_routed, content_type, body, context");
    await sql`
      with gone as (delete from outbox returning *),
      template as (select *, row_number() over () as place from gone)
      insert into outbox (shard, key, event_id, ${columns})
      select shard, key, lpad(to_hex(copy * ${sql.lit(KEYS)} + place), 32, '0')::uuid, ${columns}
      from template, generate_series(1, ${copies}::int) as copy
      order by copy, place`.execute(tx);
  });
}

/** The bus, with a promise that resolves when it was given that number of events. */
function watchSends(bus: EventBus, events: number): Pick<EventBus, "send"> & { readonly all: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let sends = 0;
  return {
    send(envelope, signal) {
      sends++;
      if (sends === events) resolve();
      return bus.send(envelope, signal);
    },
    all: promise,
  };
}

async function untilEmpty({ db }: Stage): Promise<void> {
  while (await isFilled()) await delay(LOOK_EVERY_MS);

  async function isFilled(): Promise<boolean> {
    const { rows } = await sql<{ filled: boolean }>`select exists (select from outbox) as filled`.execute(db);
    return rows[0]?.filled === true;
  }
}
