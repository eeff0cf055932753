import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkBudgets, type RpcBudget } from "./budgets.ts";
import { measuredVariant, round, smallUnary } from "./test-support.ts";

const budget: Omit<RpcBudget, "bound"> = {
  name: "client",
  scenario: "unary-small-64",
  dividend: ["meridian", "clientCpu"],
  divisor: ["grpc-js", "clientCpu"],
};
const measured = [
  smallUnary(measuredVariant("grpc-js", [round(10, 100)]), measuredVariant("meridian", [round(40, 50)])),
];
const isMet = (bound: RpcBudget["bound"]) => checkBudgets(measured, [{ ...budget, bound }])[0]?.met;

describe("a budget", () => {
  test("is met up to its bound, the bound included", () => {
    assert.equal(isMet({ atMost: 0.5 }), true);
    assert.equal(isMet({ atMost: 0.49 }), false);
    assert.equal(isMet({ atLeast: 0.5 }), true);
    assert.equal(isMet({ atLeast: 0.51 }), false);
  });

  test("is not spoken of when one of the two was not measured", () => {
    const full = [
      smallUnary(measuredVariant("grpc-js-full", [round(1, 1)]), measuredVariant("meridian", [round(1, 1)])),
    ];
    const names = checkBudgets(full).map(({ dividend, divisor }) => [dividend[0], divisor[0]]);
    assert.deepEqual(names, [["meridian", "grpc-js-full"]]);
    assert.deepEqual(checkBudgets([]), []);
  });

  test("of messages per CPU second is the other way round: what theirs cost ÷ what ours do", () => {
    const variants = [measuredVariant("grpc-js-full", [round(10, 20)]), measuredVariant("meridian", [round(10, 10)])];
    assert.deepEqual(
      checkBudgets([{ scenario: "stream-64", variants }]).map(({ ratio, met }) => ({ ratio, met })),
      [{ ratio: 1.5, met: true }],
    );
  });

  test("of the gateway is its hop beside both sides of a direct call", () => {
    const step = smallUnary(
      measuredVariant("meridian", [round(40, 60)]),
      measuredVariant("meridian-gateway", [round(41, 61, 110)]),
    );
    assert.deepEqual(
      checkBudgets([step]).map(({ ratio, met }) => ({ ratio, met })),
      [{ ratio: 1.1, met: true }],
    );
  });
});
