import { compareCpu, compareRates } from "../support/compare.ts";
import type { Result } from "../support/results.ts";
import { inRounds } from "../support/rounds.ts";
import type { Measurement } from "../support/stopwatch.ts";
import { createCounter } from "./counter.ts";
import { EventSchema } from "./event.ts";
import { startGuarded, startInserting } from "./inbox.ts";
import type { Plan } from "./plan.ts";
import { publishMany } from "./publish.ts";
import type { Stage } from "./stage.ts";

/** Starts a consumer that calls `count` for each event. @returns a function that stops it */
export type StartConsumer = (stage: Stage, count: () => void) => Promise<() => Promise<void>>;

/** Maximum number of messages in memory, and of handlers without a guard. The same for both peers. */
const PREFETCH = 200;

/** Measures how fast a full queue is handled and acknowledged. */
export async function measureConsume(stage: Stage, { consume: { rounds, events, limitMs } }: Plan): Promise<Result[]> {
  const drain = (start: StartConsumer) => () => drained(stage, events, start);
  const { bare, ours, guarded, inserting } = await inRounds(
    rounds,
    {
      bare: drain(startBare),
      ours: drain(startOurs),
      guarded: drain(startGuarded),
      inserting: drain(startInserting),
    },
    limitMs,
  );
  const rate = { unit: "events/s" };
  const cpu = { unit: "µs/event" };
  return [
    { name: "consume and ack", ...rate, ...compareRates(ours, bare) },
    { name: "consume and ack: CPU", ...cpu, ...compareCpu(ours, bare) },
    {
      name: "consume with inbox, no statement",
      ...rate,
      ...compareRates(guarded, bare),
      budget: { of: "ratio", atLeast: 0.5 },
    },
    { name: "consume with inbox, no statement: CPU", ...cpu, ...compareCpu(guarded, bare) },
    { name: "consume with inbox, one insert each", ...rate, ...compareRates(inserting, bare) },
    { name: "consume with inbox, one insert each: CPU", ...cpu, ...compareCpu(inserting, bare) },
  ];
}

async function drained(stage: Stage, events: number, start: StartConsumer): Promise<Measurement> {
  await publishMany(stage, events);
  const counter = createCounter(events);
  const stop = await start(stage, counter.count);
  const measurement = await counter.all().finally(stop);
  counter.assertNoMore();
  await stage.assertEmpty();
  return measurement;
}

const startBare: StartConsumer = async ({ rabbit, queue }, count) => {
  const qos = { prefetchCount: PREFETCH };
  // `passive`: the queue is there, with our arguments.
  const options = { queue, qos, concurrency: PREFETCH, queueOptions: { passive: true } };
  const consumer = rabbit.createConsumer(options, () => {
    count();
  });
  return () => consumer.close();
};

const startOurs: StartConsumer = async (stage, count) => {
  const bus = stage.createBus({ prefetch: PREFETCH, concurrency: PREFETCH });
  const consumer = bus.consume({ events: [EventSchema], handlers: { "testing.v1.Greeted": count } });
  await bus.start();
  await consumer.start();
  return async () => {
    await consumer.close();
    await bus.close();
  };
};
