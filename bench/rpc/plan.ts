import { type ScenarioName, scenarioNames } from "./scenarios.ts";
import { type VariantName, variantNames } from "./variants.ts";

/** How much is measured. */
export interface Plan {
  /** Each with those that are measured side by side. */
  readonly steps: readonly Step[];
  /** For each pair of processes, before the rounds. */
  readonly warmUpMs: number;
  /** After one more that counts for nothing. */
  readonly rounds: number;
  /**
   * Before each round, not counted: while the others have their rounds, V8 makes an idle process smaller, and the kernel
   * takes its memory away.
   */
  readonly leadInMs: number;
  readonly roundMs: number;
  /** A pair's memory is looked at when it has made so many calls of `memoryScenario`. 0: never. */
  readonly memoryCalls: number;
}

export interface Step {
  readonly scenario: ScenarioName;
  readonly variants: readonly VariantName[];
}

export interface PlanOptions {
  readonly quick: boolean;
  /** Undefined: all. */
  readonly only?: readonly VariantName[] | undefined;
  /** Undefined: all, or those that a quick run has time for. */
  readonly scenarios?: readonly ScenarioName[] | undefined;
}

/** What budgets, memory and the chart are about. */
export const mainScenario: ScenarioName = "unary-small-64";

/** What a quick run measures: whatever a budget compares, and the references. */
const quickVariants: Partial<Record<ScenarioName, readonly VariantName[]>> = {
  [mainScenario]: [
    "raw-full",
    "grpc-js",
    "grpc-js-full",
    "stock",
    "meridian",
    "meridian-connect-h1",
    "meridian-gateway",
  ],
  "stream-64": ["raw-full", "grpc-js-full", "meridian", "meridian-connect-h2", "meridian-grpc-web-h2"],
};

export function createPlan({ quick, only, scenarios }: PlanOptions): Plan {
  const amount = quick
    ? { warmUpMs: 900, rounds: 3, leadInMs: 0, roundMs: 250, memoryCalls: 0 }
    : { warmUpMs: 6_000, rounds: 5, leadInMs: 600, roundMs: 800, memoryCalls: 100_000 };
  const names = scenarios ?? scenarioNames.filter((name) => !quick || name in quickVariants);
  const steps = names.map((scenario) => ({
    scenario,
    variants: only ?? (quick ? quickVariants[scenario] : undefined) ?? variantNames,
  }));
  return { ...amount, steps };
}
