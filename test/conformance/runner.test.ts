import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { toSummary } from "./runner.ts";

describe("the summary of a run", () => {
  test("counts the cases and keeps the failures that no exception names", () => {
    const output = [
      "FAILED: Basic/unary:\n\tactual error A\n",
      "INFO: Timeouts/unary failed (as expected):\n\tactual error B\n",
      "FAILED: Basic/stream was expected to fail but did not\n",
      "\nTotal cases: 4\n1 passed, 2 failed\n(Another 1 failed as expected due to being known failures/flakes.)\n",
    ].join("");
    const { report, ...numbers } = toSummary(output);
    assert.deepEqual(numbers, { total: 4, passed: 1, excepted: 1 });
    assert.match(report, /Basic\/unary:\n\tactual error A\n.*Basic\/stream was expected.*Total cases: 4/s);
    assert.doesNotMatch(report, /error B/);
  });

  test("does not count a case that could not be run as passed", () => {
    const output = "\nTotal cases: 3\n2 passed, 0 failed\nAnother 1 could not be run due to client timing out.\n";
    const { total, passed, report } = toSummary(output);
    assert.deepEqual([total, passed], [3, 2]);
    assert.match(report, /could not be run/);
  });

  test("is the whole output when the runner did not finish", () => {
    const output = "no test cases match the pattern\n";
    assert.deepEqual(toSummary(output), { total: 0, passed: 0, excepted: 0, report: output });
  });
});
