import { rounded } from "../../support/results.ts";
import type { SideMemory } from "../line.ts";
import type { Measured, MeasuredVariant } from "../measure.ts";
import { scenarios } from "../scenarios.ts";
import { type Metric, medianOf, metrics, ratioOf, variantOf } from "./metrics.ts";

/** One line of `bench/results/rpc.json`. */
export interface Entry {
  /** Scenario, variant and what was measured. */
  readonly name: string;
  readonly side: Metric["side"];
  readonly value: number;
  readonly unit: string;
  /** Null where there is nothing to stand beside. */
  readonly ratio_to_grpc_js_full: number | null;
  readonly ratio_to_raw_full: number | null;
}

const MIB = 1024 * 1024;

/** Ratios are the medians over rounds, and so need not be those of the values. */
export function toEntries(measured: readonly Measured[], memoryCalls: number): Entry[] {
  return measured.flatMap((step) =>
    step.variants.flatMap((variant) => [...speeds(step, variant), ...memories(step, variant, memoryCalls)]),
  );
}

function speeds(step: Measured, variant: MeasuredVariant): Entry[] {
  const all: readonly Metric[] = Object.values(metrics);
  return all.flatMap((metric) => {
    const value = medianOf(variant, metric);
    if (value === undefined) return [];
    const ratioTo = (name: "grpc-js-full" | "raw-full") => orNull(ratioOf(variant, metric, variantOf(step, name)));
    return [
      {
        name: `${step.scenario}: ${variant.name}: ${metric.name}`,
        side: metric.side,
        value: rounded(value),
        unit: metric.unit(scenarios[step.scenario].unit),
        ratio_to_grpc_js_full: ratioTo("grpc-js-full"),
        ratio_to_raw_full: ratioTo("raw-full"),
      },
    ];
  });
}

function memories(step: Measured, variant: MeasuredVariant, calls: number): Entry[] {
  const { memory } = variant;
  if (memory === undefined) return [];
  const sides = (Object.keys(memory) as (keyof SideMemory)[]).filter((side) => memory[side] !== undefined);
  return sides.flatMap((side) =>
    (["rssBytes", "heapBytes"] as const).map((kind) => {
      const bytes = memory[side]?.[kind] ?? Number.NaN;
      const ratioTo = (name: "grpc-js-full" | "raw-full") => {
        const theirs = variantOf(step, name)?.memory?.[side]?.[kind];
        return orNull(theirs === undefined ? undefined : bytes / theirs);
      };
      return {
        name: `${step.scenario}: ${variant.name}: ${kind === "rssBytes" ? "RSS" : "heap"} after ${calls} calls`,
        side,
        value: rounded(bytes / MIB),
        unit: "MiB",
        ratio_to_grpc_js_full: ratioTo("grpc-js-full"),
        ratio_to_raw_full: ratioTo("raw-full"),
      };
    }),
  );
}

function orNull(ratio: number | undefined): number | null {
  return ratio === undefined || Number.isNaN(ratio) ? null : rounded(ratio);
}
