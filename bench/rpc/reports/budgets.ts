import type { Measured } from "../measure.ts";
import { mainScenario } from "../plan.ts";
import type { ScenarioName } from "../scenarios.ts";
import type { VariantName } from "../variants.ts";
import { type MetricName, metrics, ratioOf, variantOf } from "./metrics.ts";

/** How one variant should stand beside another in the same scenario: a bound on the first ÷ the second. */
export interface RpcBudget {
  readonly name: string;
  readonly scenario: ScenarioName;
  readonly ours: readonly [VariantName, MetricName];
  readonly theirs: readonly [VariantName, MetricName];
  readonly bound: { readonly atMost: number } | { readonly atLeast: number };
}

export interface CheckedBudget extends RpcBudget {
  readonly ratio: number;
  readonly met: boolean;
}

/** What Meridian is held to. */
export const budgets: readonly RpcBudget[] = [
  {
    name: "server, every policy on ÷ grpc-js",
    scenario: mainScenario,
    ours: ["meridian", "serverCpu"],
    theirs: ["grpc-js", "serverCpu"],
    bound: { atMost: 1.25 },
  },
  {
    name: "client, every policy on ÷ grpc-js",
    scenario: mainScenario,
    ours: ["meridian", "clientCpu"],
    theirs: ["grpc-js", "clientCpu"],
    bound: { atMost: 0.65 },
  },
  {
    name: "both, every policy on ÷ grpc-js",
    scenario: mainScenario,
    ours: ["meridian", "bothCpu"],
    theirs: ["grpc-js", "bothCpu"],
    bound: { atMost: 0.75 },
  },
  {
    name: "stock Connect ÷ both, every policy on",
    scenario: mainScenario,
    ours: ["stock", "bothCpu"],
    theirs: ["meridian", "bothCpu"],
    bound: { atLeast: 4 },
  },
  {
    name: "both, Connect on HTTP/1.1 ÷ grpc-js",
    scenario: mainScenario,
    ours: ["meridian-connect-h1", "bothCpu"],
    theirs: ["grpc-js", "bothCpu"],
    bound: { atMost: 0.65 },
  },
  {
    name: "streams, messages/s ÷ grpc-js",
    scenario: "stream-64",
    ours: ["meridian", "rate"],
    theirs: ["grpc-js", "rate"],
    bound: { atLeast: 0.8 },
  },
  {
    name: "the gateway's hop ÷ one direct call",
    scenario: mainScenario,
    ours: ["meridian-gateway", "gatewayCpu"],
    theirs: ["meridian", "bothCpu"],
    bound: { atMost: 1.2 },
  },
];

/** Those for which both were measured. */
export function checkBudgets(measured: readonly Measured[], all: readonly RpcBudget[] = budgets): CheckedBudget[] {
  return all.flatMap((budget) => {
    const { scenario, ours, theirs, bound } = budget;
    const step = measured.find((one) => one.scenario === scenario);
    if (step === undefined) return [];
    const [our, their] = [variantOf(step, ours[0]), variantOf(step, theirs[0])];
    const ratio = ratioOf(our, metrics[ours[1]], their, metrics[theirs[1]]);
    if (ratio === undefined) return [];
    return [{ ...budget, ratio, met: "atMost" in bound ? ratio <= bound.atMost : ratio >= bound.atLeast }];
  });
}
