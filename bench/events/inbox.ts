import { sql, type Transaction } from "kysely";
import { createInbox, type EventContext } from "#shared/event-bus";
import type { StartConsumer } from "./consume.ts";
import { EventSchema } from "./event.ts";
import type { Stage, Tables } from "./stage.ts";

/** Consumes with an inbox and a handler without statements: the cost of the guard itself. */
export const startGuarded: StartConsumer = (stage, count) => start(stage, count);

/** Consumes with an inbox and a handler with one statement, in the guard's transaction. */
export const startInserting: StartConsumer = async (stage, count) => {
  let inserted = 0;
  const stop = await start(stage, async ({ id, tx }) => {
    await tx.insertInto("effects").values({ event_id: id }).execute();
    inserted++;
    count();
  });
  return async () => {
    await stop();
    await assertEffects(stage, inserted);
  };
};

async function start(
  { createBus, db, logger }: Stage,
  handle: (context: EventContext & { readonly tx: Transaction<Tables> }) => Promise<void> | void,
): Promise<() => Promise<void>> {
  const bus = createBus();
  const consumer = bus.consume({
    events: [EventSchema],
    guard: createInbox({ db, logger }),
    handlers: { "testing.v1.Greeted": (_, context) => handle(context) },
  });
  await bus.start();
  await consumer.start();
  return async () => {
    await consumer.close();
    await bus.close();
  };
}

/** @throws Error when an event had no effect or more than one */
async function assertEffects({ db }: Stage, events: number): Promise<void> {
  const { rows } = await sql<{ all: bigint; distinct: bigint }>`
    select count(*) as all, count(distinct event_id) as distinct from effects`.execute(db);
  await sql`truncate effects`.execute(db);
  const { all, distinct } = rows[0] ?? {};
  if (Number(all) !== events || Number(distinct) !== events) {
    throw new Error(`${events} events were handled, with ${all} effects of ${distinct} events`);
  }
}
