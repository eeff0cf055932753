import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkBudgets } from "./budgets.ts";
import { toBudgetTable, toMemoryTable, toScenarioTable } from "./tables.ts";
import { measuredVariant, round, smallUnary } from "./test-support.ts";

const MIB = 1024 * 1024;
const cellsOf = (table: string | undefined) => (table ?? "").split("\n").map((line) => line.trim().split(/ {2,}/));

describe("the table", () => {
  test("of a scenario has CPU by side, ratios, rate and latency, with the gateway's part beside", () => {
    const step = smallUnary(
      measuredVariant("grpc-js-full", [round(30, 70)]),
      measuredVariant("meridian-gateway", [round(20, 30, 55)]),
    );
    assert.deepEqual(cellsOf(toScenarioTable(step)).slice(1), [
      ["grpc-js-full", "30", "70", "100", "1.00", "10,000", "1", "2"],
      ["meridian-gateway", "20", "30", "50", "+ 55 gateway", "0.50", "20,000", "1", "2"],
    ]);
  });

  test("of memory is there when memory was looked at", () => {
    const one = { rssBytes: 90 * MIB, heapBytes: 12 * MIB, handles: 5 };
    const step = smallUnary(
      measuredVariant("raw", [round(1, 1)]),
      measuredVariant("stock", [round(1, 1)], { server: one, client: one }),
    );
    assert.deepEqual(cellsOf(toMemoryTable([step], 100_000)), [
      ["MiB after 100,000 calls", "server RSS", "heap", "client RSS", "heap"],
      ["stock", "90", "12", "90", "12"],
    ]);
    assert.equal(toMemoryTable([smallUnary()], 100_000), undefined);
  });

  test("of budgets says which are met and which are not", () => {
    const step = smallUnary(
      measuredVariant("grpc-js-full", [round(10, 100)]),
      measuredVariant("meridian", [round(40, 50)]),
    );
    assert.deepEqual(
      cellsOf(toBudgetTable(checkBudgets([step]))).map((cells) => cells.at(-1)),
      ["bound", "NOT MET"],
    );
    assert.equal(toBudgetTable([]), undefined);
  });
});
