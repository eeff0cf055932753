import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { toSummary } from "./runner.ts";

describe("the summary of a run", () => {
  test("counts the cases and keeps the failures", () => {
    const output = [
      "INFO: Timeouts/unary was slow\n",
      "FAILED: Basic/unary:\n\tactual error A\n",
      "\nTotal cases: 3\n2 passed, 1 failed\n",
    ].join("");
    const { report, ...numbers } = toSummary(output);
    assert.deepEqual(numbers, { total: 3, passed: 2 });
    assert.match(report, /Basic\/unary:\n\tactual error A\n.*Total cases: 3/s);
    assert.doesNotMatch(report, /slow/);
  });

  test("does not count a case that could not be run as passed", () => {
    const output = "\nTotal cases: 3\n2 passed, 0 failed\nAnother 1 could not be run due to client timing out.\n";
    const { total, passed, report } = toSummary(output);
    assert.deepEqual([total, passed], [3, 2]);
    assert.match(report, /could not be run/);
  });

  test("is the whole output when the runner did not finish", () => {
    const output = "no test cases match the pattern\n";
    assert.deepEqual(toSummary(output), { total: 0, passed: 0, report: output });
  });
});
