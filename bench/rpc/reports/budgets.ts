import type { Measured } from "../measure.ts";
import { mainScenario } from "../plan.ts";
import type { ScenarioName } from "../scenarios.ts";
import type { VariantName } from "../variants.ts";
import { type MetricName, metrics, ratioOf, variantOf } from "./metrics.ts";

/** How one variant should stand beside another in the same scenario: a bound on the first ÷ the second. */
export interface RpcBudget {
  readonly name: string;
  readonly scenario: ScenarioName;
  readonly dividend: readonly [VariantName, MetricName];
  readonly divisor: readonly [VariantName, MetricName];
  readonly bound: { readonly atMost: number } | { readonly atLeast: number };
}

export interface CheckedBudget extends RpcBudget {
  readonly ratio: number;
  readonly met: boolean;
}

/** What Meridian is held to; the reference is grpc-js with a deadline, `traceparent` and `x-request-id`. */
export const budgets: readonly RpcBudget[] = [
  {
    name: "unary gRPC, every policy on ÷ grpc-js-full",
    scenario: mainScenario,
    dividend: ["meridian", "bothCpu"],
    divisor: ["grpc-js-full", "bothCpu"],
    bound: { atMost: 0.6 },
  },
  {
    name: "unary Connect on HTTP/1.1 ÷ grpc-js-full",
    scenario: mainScenario,
    dividend: ["meridian-connect-h1", "bothCpu"],
    divisor: ["grpc-js-full", "bothCpu"],
    bound: { atMost: 0.8 },
  },
  messagesPerCpuSecond("gRPC", "meridian", 1.5),
  messagesPerCpuSecond("Connect", "meridian-connect-h2", 1),
  messagesPerCpuSecond("gRPC-Web", "meridian-grpc-web-h2", 1),
  {
    name: "the gateway's hop ÷ one direct call",
    scenario: mainScenario,
    dividend: ["meridian-gateway", "gatewayCpu"],
    divisor: ["meridian", "bothCpu"],
    bound: { atMost: 1.2 },
  },
];

/** Messages per CPU second are the inverse of CPU time per message: their CPU time ÷ ours. */
function messagesPerCpuSecond(protocol: string, variant: VariantName, atLeast: number): RpcBudget {
  return {
    name: `streams of ${protocol}, messages per CPU second ÷ grpc-js-full`,
    scenario: "stream-64",
    dividend: ["grpc-js-full", "bothCpu"],
    divisor: [variant, "bothCpu"],
    bound: { atLeast },
  };
}

/** Those for which both were measured. */
export function checkBudgets(measured: readonly Measured[], all: readonly RpcBudget[] = budgets): CheckedBudget[] {
  return all.flatMap((budget) => {
    const { scenario, dividend, divisor, bound } = budget;
    const step = measured.find((one) => one.scenario === scenario);
    if (step === undefined) return [];
    const [first, second] = [variantOf(step, dividend[0]), variantOf(step, divisor[0])];
    const ratio = ratioOf(first, metrics[dividend[1]], second, metrics[divisor[1]]);
    if (ratio === undefined) return [];
    return [{ ...budget, ratio, met: "atMost" in bound ? ratio <= bound.atMost : ratio >= bound.atLeast }];
  });
}
