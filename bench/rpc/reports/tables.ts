import { toColumns } from "../../support/columns.ts";
import { inDigits } from "../../support/table.ts";
import type { Measured } from "../measure.ts";
import { scenarios } from "../scenarios.ts";
import type { CheckedBudget } from "./budgets.ts";
import { medianOf, metrics, ratioOf, variantOf } from "./metrics.ts";

const MIB = 1024 * 1024;

/** A scenario for people: CPU time by side, what both come to beside the peers, rate and latency. */
export function toScenarioTable(step: Measured): string {
  const { scenario } = step;
  const { unit } = scenarios[scenario];
  const head = [
    scenario,
    "server",
    "client",
    "both",
    `µs/${unit}`,
    "÷ grpc-js-full",
    "÷ raw-full",
    `${unit}s/s`,
    "p50 ms",
    "p99 ms",
  ];
  const rows = step.variants.map((variant) => {
    const cell = (metric: keyof typeof metrics) => inCell(medianOf(variant, metrics[metric]));
    const ratioTo = (name: "grpc-js-full" | "raw-full") =>
      ratioOf(variant, metrics.bothCpu, variantOf(step, name))?.toFixed(2) ?? "";
    const gateway = medianOf(variant, metrics.gatewayCpu);
    return [
      variant.name,
      cell("serverCpu"),
      cell("clientCpu"),
      cell("bothCpu"),
      gateway === undefined ? "" : `+ ${inDigits(gateway)} gateway`,
      ratioTo("grpc-js-full"),
      ratioTo("raw-full"),
      cell("rate"),
      cell("p50"),
      cell("p99"),
    ];
  });
  return toColumns([head, ...rows], new Set(head.keys().drop(1)));
}

/** Undefined when nobody's memory was looked at. */
export function toMemoryTable(measured: readonly Measured[], calls: number): string | undefined {
  const variants = measured.flatMap((step) => step.variants).filter(({ memory }) => memory !== undefined);
  if (variants.length === 0) return undefined;
  const inMib = (bytes: number | undefined) => (bytes === undefined ? "" : inDigits(bytes / MIB));
  const head = [`MiB after ${calls.toLocaleString("en")} calls`, "server RSS", "heap", "client RSS", "heap"];
  const rows = variants.map(({ name, memory }) => [
    name,
    inMib(memory?.server.rssBytes),
    inMib(memory?.server.heapBytes),
    inMib(memory?.client.rssBytes),
    inMib(memory?.client.heapBytes),
    ...(memory?.gateway === undefined
      ? []
      : [`+ ${inMib(memory.gateway.rssBytes)} RSS, ${inMib(memory.gateway.heapBytes)} heap`]),
  ]);
  return toColumns([head, ...rows], new Set([1, 2, 3, 4]));
}

/** Undefined when there is none to look at. */
export function toBudgetTable(checked: readonly CheckedBudget[]): string | undefined {
  if (checked.length === 0) return undefined;
  const rows = checked.map(({ name, scenario, ratio, bound, met }) => [
    name,
    scenario,
    ratio.toFixed(2),
    "atMost" in bound ? `≤ ${bound.atMost}` : `≥ ${bound.atLeast}`,
    met ? "met" : "NOT MET",
  ]);
  return toColumns([["budget", "scenario", "ratio", "bound", ""], ...rows], new Set([2, 3]));
}

function inCell(value: number | undefined): string {
  return value === undefined ? "" : inDigits(value);
}
