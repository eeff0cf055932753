import { type Measurement, startStopwatch } from "../support/stopwatch.ts";
import { within } from "../support/within.ts";
import { untilAcknowledged } from "./acks.ts";

/** Counts handled events, and measures from the first to the last. */
export interface Counter {
  count(): void;
  /**
   * Resolves when all have come and their acknowledgements have gone.
   *
   * @throws Error when not all have come after a minute
   */
  all(): Promise<Measurement>;
  /** @throws Error when more came than there were */
  assertNoMore(): void;
}

const LONGEST_MS = 60_000;

export function createCounter(expected: number): Counter {
  const { promise, resolve } = Promise.withResolvers<Measurement>();
  let stopwatch: ReturnType<typeof startStopwatch> | undefined;
  let seen = 0;

  return {
    count() {
      seen++;
      stopwatch ??= startStopwatch();
      if (seen === expected) resolve(stopwatch.stop(expected - 1));
    },
    async all() {
      const measurement = await within(LONGEST_MS, `consuming ${expected} events`, promise);
      await untilAcknowledged();
      return measurement;
    },
    assertNoMore() {
      if (seen > expected) throw new Error(`${expected} events were published, and ${seen} handled`);
    },
  };
}
