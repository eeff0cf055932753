import type { Result } from "./results.ts";
import { median, medianRatio } from "./rounds.ts";
import type { Measurement } from "./stopwatch.ts";

/** Ours beside the bare peer, round by round: how many a second. */
export function compareRates(ours: readonly Measurement[], bare: readonly Measurement[]): Compared {
  return compare(ours, bare, ({ perSecond }) => perSecond);
}

/** The same for the CPU time of one operation. */
export function compareCpu(ours: readonly Measurement[], bare: readonly Measurement[]): Compared {
  return compare(ours, bare, ({ cpuMicros }) => cpuMicros);
}

type Compared = Required<Pick<Result, "value" | "bare" | "ratio">>;

function compare(
  ours: readonly Measurement[],
  bare: readonly Measurement[],
  pick: (measurement: Measurement) => number,
): Compared {
  const [ourValues, bareValues] = [ours.map(pick), bare.map(pick)];
  return { value: median(ourValues), bare: median(bareValues), ratio: medianRatio(ourValues, bareValues) };
}
