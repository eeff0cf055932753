import { median, medianRatio } from "../../support/rounds.ts";
import type { Round } from "../line.ts";
import type { Measured, MeasuredVariant } from "../measure.ts";
import type { VariantName } from "../variants.ts";

/** What is said of a round. */
export interface Metric {
  readonly name: string;
  /** Whose it is. `both` are client and server, without what stands between them. */
  readonly side: "server" | "client" | "both" | "gateway";
  readonly unit: (of: "call" | "message") => string;
  /** Undefined when the variant has no such thing. */
  readonly of: (round: Round) => number | undefined;
}

const cpuUnit = (of: string) => `µs/${of}`;

export const metrics = {
  serverCpu: { name: "CPU", side: "server", unit: cpuUnit, of: ({ cpuMicros }) => cpuMicros.server },
  clientCpu: { name: "CPU", side: "client", unit: cpuUnit, of: ({ cpuMicros }) => cpuMicros.client },
  bothCpu: { name: "CPU", side: "both", unit: cpuUnit, of: ({ cpuMicros: { server, client } }) => server + client },
  gatewayCpu: { name: "CPU", side: "gateway", unit: cpuUnit, of: ({ cpuMicros }) => cpuMicros.gateway },
  rate: { name: "rate", side: "both", unit: (of) => `${of}s/s`, of: ({ perSecond }) => perSecond },
  p50: { name: "latency p50", side: "client", unit: () => "ms", of: ({ p50Ms }) => p50Ms },
  p99: { name: "latency p99", side: "client", unit: () => "ms", of: ({ p99Ms }) => p99Ms },
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof metrics;

/** The median over rounds. Undefined when the variant was not measured, or has no such thing. */
export function medianOf(variant: MeasuredVariant | undefined, metric: Metric): number | undefined {
  const values = valuesOf(variant, metric);
  return values === undefined ? undefined : median(values);
}

/** The median over rounds of ours ÷ theirs in the same round. Undefined when one of them is missing. */
export function ratioOf(
  ours: MeasuredVariant | undefined,
  metric: Metric,
  theirs: MeasuredVariant | undefined,
  theirMetric: Metric = metric,
): number | undefined {
  const [our, their] = [valuesOf(ours, metric), valuesOf(theirs, theirMetric)];
  return our === undefined || their === undefined ? undefined : medianRatio(our, their);
}

export function variantOf({ variants }: Measured, name: VariantName): MeasuredVariant | undefined {
  return variants.find((variant) => variant.name === name);
}

function valuesOf(variant: MeasuredVariant | undefined, metric: Metric): readonly number[] | undefined {
  const values = (variant?.rounds ?? []).map(metric.of).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : values;
}
