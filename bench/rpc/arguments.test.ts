import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseArguments } from "./arguments.ts";

describe("the command line", () => {
  test("asks for everything in full when it says nothing", () => {
    assert.deepEqual(parseArguments([]), { quick: false, only: undefined, scenarios: undefined, cpuProf: false });
  });

  test("names variants and scenarios with commas between them, each counted once", () => {
    const args = ["--only", "meridian, grpc-js,meridian", "--scenario", "unary-small-64", "--cpu-prof", "--quick"];
    assert.deepEqual(parseArguments(args), {
      quick: true,
      only: ["meridian", "grpc-js"],
      scenarios: ["unary-small-64"],
      cpuProf: true,
    });
  });

  for (const args of [["--only", "grpc"], ["--scenario", "unary"], ["--scenario="], ["--fast"], ["quick"]]) {
    test(`is refused when it says ${args.join(" ")}`, () => {
      assert.throws(() => parseArguments(args));
    });
  }

  test("is refused with the names that there are", () => {
    assert.throws(() => parseArguments(["--only", "grpc"]), /"grpc".*meridian-bare/);
  });
});
