import { setTimeout as delay } from "node:timers/promises";
import { afterCommit } from "#shared/database";
import { createInbox, createOutbox } from "#shared/event-bus";
import type { Result } from "../support/results.ts";
import { inRounds, quantile } from "../support/rounds.ts";
import { within } from "../support/within.ts";
import { untilAcknowledged } from "./acks.ts";
import { bareBody, createBareEnvelope, createEvent, EventSchema, keyOf } from "./event.ts";
import type { Plan } from "./plan.ts";
import type { Stage } from "./stage.ts";

const LONGEST_MS = 60_000;

/**
 * Measures the time from the commit of a transaction that adds an event to the first line of the handler, which has an
 * inbox; beside it, the bare client's time from `send` to its handler, without a database.
 */
export async function measureLatency(stage: Stage, { latency }: Plan): Promise<Result[]> {
  const { perSecond, rounds, eventsARound, limitMs } = latency;
  const results = await inRounds(
    rounds,
    {
      ours: () => commitToHandler(stage, eventsARound, perSecond),
      bare: () => sendToHandler(stage, eventsARound, perSecond),
    },
    limitMs,
  );
  const [ours, bare] = [results.ours.flat(), results.bare.flat()];
  const row = (share: number) => {
    const [value, ofBare] = [quantile(ours, share), quantile(bare, share)];
    return { unit: "ms", value, bare: ofBare, ratio: value / ofBare };
  };
  const name = `commit to handler at ${perSecond}/s`;
  return [
    { name: `${name}, p50`, ...row(0.5) },
    { name: `${name}, p99`, ...row(0.99), budget: { of: "value", below: 25 } },
  ];
}

/** In milliseconds. */
async function commitToHandler(stage: Stage, events: number, perSecond: number): Promise<readonly number[]> {
  const { config, createBus, db, logger } = stage;
  const latencies = createLatencies(events);
  const bus = createBus();
  const outbox = createOutbox({ db, bus, config, source: "bench", logger });
  const consumer = bus.consume({
    events: [EventSchema],
    guard: createInbox({ db, logger }),
    handlers: { "testing.v1.Greeted": ({ name }) => latencies.end(Number.parseInt(name, 36)) },
  });
  try {
    await bus.start();
    await consumer.start();
    outbox.start();
    await atRate(events, perSecond, (index) =>
      db.transaction().execute(async (tx) => {
        // Before `add`, whose own hook wakes the relay.
        await afterCommit(tx, () => latencies.begin(index));
        await outbox.add(tx, EventSchema, createEvent(index.toString(36).padStart(3, "0")), { key: keyOf(index) });
      }),
    );
    return await latencies.all();
  } finally {
    await consumer.close();
    await outbox.stop();
    await bus.close();
  }
}

async function sendToHandler(stage: Stage, events: number, perSecond: number): Promise<readonly number[]> {
  const { exchange, queue, rabbit } = stage;
  const latencies = createLatencies(events);
  const publisher = rabbit.createPublisher({ confirm: true });
  const options = { queue, qos: { prefetchCount: 200 }, queueOptions: { passive: true } };
  const consumer = rabbit.createConsumer(options, ({ messageId }) => latencies.end(Number(messageId)));
  try {
    await atRate(events, perSecond, (index) => {
      latencies.begin(index);
      return publisher.send({ ...createBareEnvelope(exchange), messageId: String(index) }, bareBody);
    });
    return await latencies.all();
  } finally {
    await consumer.close();
    await publisher.close();
  }
}

/** Records one latency for each event, from `begin` to `end`. */
function createLatencies(events: number) {
  const begun: number[] = [];
  const latencies: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();

  return {
    begin(index: number): void {
      begun[index] = performance.now();
    },
    end(index: number): void {
      latencies.push(performance.now() - (begun[index] ?? Number.NaN));
      if (latencies.length === events) resolve();
    },
    async all(): Promise<readonly number[]> {
      await within(LONGEST_MS, `handling ${events} events`, promise);
      await untilAcknowledged();
      return latencies;
    },
  };
}

/** Begins each call at its time, without waiting for earlier ones. */
async function atRate(times: number, perSecond: number, work: (index: number) => Promise<void>): Promise<void> {
  const start = performance.now();
  const running: Promise<void>[] = [];
  for (let index = 0; index < times; index++) {
    const early = start + (index * 1_000) / perSecond - performance.now();
    if (early > 0) await delay(early);
    running.push(work(index));
  }
  await Promise.all(running);
}
