import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { before, describe, test } from "node:test";
import { skipWithout } from "../support/skip.ts";
import { exceptions } from "./exceptions.ts";
import { hasGo, install } from "./install.ts";
import { runSuite, type SuiteOptions } from "./runner.ts";

/** Number of cases for the features in server.yaml and client.yaml. */
const CASES = { server: 5266, client: 6872 };

describe("Connect's conformance suite", { skip: skipWithout("Go", hasGo) }, () => {
  let runner: string;
  before(() => {
    runner = install();
  });

  test("has programs under test that match its protos", () => {
    const programs = join(import.meta.dirname, "programs");
    const tsc = join(import.meta.dirname, "../../node_modules/.bin/tsc");
    const { status, stdout } = spawnSync(tsc, ["--project", programs], { encoding: "utf8" });
    assert.equal(status, 0, stdout);
  });

  test("passes on the server's fast path", async () => {
    await assertPasses({ runner, mode: "server", exceptions: exceptions["fast path"] });
  });

  test("passes on the server's fallback", async () => {
    await assertPasses({ runner, mode: "server", flags: ["--fallback"], exceptions: exceptions.fallback });
  });

  test("passes with the transport pool as client", async () => {
    await assertPasses({ runner, mode: "client", exceptions: exceptions.client });
  });
});

async function assertPasses(options: SuiteOptions): Promise<void> {
  const { total, passed, excepted, report } = await runSuite(options);
  assert.equal(passed + excepted, total, report);
  if (process.env["CONFORMANCE_CASES"] === undefined) assert.equal(total, CASES[options.mode], report);
  else assert.ok(total > 0, report);
}
