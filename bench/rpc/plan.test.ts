import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createPlan, mainScenario } from "./plan.ts";
import { budgets } from "./reports/budgets.ts";
import { scenarioNames } from "./scenarios.ts";
import { variantNames } from "./variants.ts";

describe("a plan", () => {
  test("has every variant in every scenario when it is full", () => {
    const { steps, memoryCalls } = createPlan({ quick: false });
    assert.deepEqual(
      steps,
      scenarioNames.map((scenario) => ({ scenario, variants: variantNames })),
    );
    assert.equal(memoryCalls, 100_000);
  });

  test("has what the budgets need when it is quick, and its rounds and warm-up take less than 30 seconds", () => {
    const { steps, rounds, roundMs, warmUpMs } = createPlan({ quick: true });
    for (const { name, scenario, dividend, divisor } of budgets) {
      const variants = steps.find((step) => step.scenario === scenario)?.variants ?? [];
      assert.ok(variants.includes(dividend[0]) && variants.includes(divisor[0]), name);
    }
    const variants = steps.reduce((sum, step) => sum + step.variants.length, 0);
    assert.ok(variants * (warmUpMs + (rounds + 1) * roundMs) < 30_000);
  });

  test("has only what was asked for, quick or not", () => {
    const only = ["meridian", "grpc-js"] as const;
    for (const quick of [false, true]) {
      const { steps } = createPlan({ quick, only, scenarios: ["stream-1"] });
      assert.deepEqual(steps, [{ scenario: "stream-1", variants: only }]);
    }
    assert.deepEqual(createPlan({ quick: true, only }).steps[0], { scenario: mainScenario, variants: only });
  });
});
