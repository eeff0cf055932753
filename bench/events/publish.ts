import { compareCpu, compareRates } from "../support/compare.ts";
import type { Result } from "../support/results.ts";
import { inRounds } from "../support/rounds.ts";
import { type Measurement, startStopwatch } from "../support/stopwatch.ts";
import { bareBody, createBareEnvelope, createEvent, EventSchema, keyOf } from "./event.ts";
import type { Plan } from "./plan.ts";
import type { Stage } from "./stage.ts";

export type Send = (index: number) => Promise<void>;

/** Measures publishing with confirmation, with a number of events in flight. */
export async function measurePublish(stage: Stage, { publish }: Plan): Promise<Result[]> {
  const { windows, rounds, roundMs, limitMs } = publish;
  const peer = openBare(stage);
  const results: Result[] = [];
  try {
    for (const window of windows) {
      const peers = {
        bare: () => confirmed(stage, window, roundMs, peer.send),
        ours: () => confirmed(stage, window, roundMs, sendOurs(stage)),
      };
      const { bare, ours } = await inRounds(rounds, peers, limitMs);
      const name = `confirmed publish, window ${window}`;
      results.push(
        { name, unit: "events/s", ...compareRates(ours, bare), budget: { of: "ratio", atLeast: 0.85 } },
        { name: `${name}: CPU`, unit: "µs/event", ...compareCpu(ours, bare) },
      );
    }
  } finally {
    await peer.close();
  }
  return results;
}

export function openBare({ exchange, rabbit }: Stage): { readonly send: Send; close(): Promise<void> } {
  const publisher = rabbit.createPublisher({ confirm: true });
  return {
    send: () => publisher.send(createBareEnvelope(exchange), bareBody),
    close: () => publisher.close(),
  };
}

/** Puts a number of events into the queue. */
export async function publishMany(stage: Stage, events: number): Promise<void> {
  await atOnce(1_000, (index) => index < events, sendOurs(stage));
}

function sendOurs({ bus }: Stage): Send {
  return (index) => bus.publish(EventSchema, createEvent(), { key: keyOf(index) });
}

/** Sends for a time, with `window` events in flight. @throws Error when not all that was confirmed is in the queue */
export async function confirmed(stage: Stage, window: number, forMs: number, send: Send): Promise<Measurement> {
  const until = performance.now() + forMs;
  const stopwatch = startStopwatch();
  const events = await atOnce(window, () => performance.now() < until, send);
  const measurement = stopwatch.stop(events);
  const stored = await stage.purge();
  if (stored !== events) throw new Error(`${events} events were confirmed, and ${stored} were in the queue`);
  return measurement;
}

/** Sends while `more` is true of the next index. @returns the number of events sent */
async function atOnce(window: number, more: (index: number) => boolean, send: Send): Promise<number> {
  let next = 0;
  const lane = async () => {
    while (more(next)) await send(next++);
  };
  await Promise.all(Array.from({ length: window }, lane));
  return next;
}
