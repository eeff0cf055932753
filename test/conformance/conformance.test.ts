import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { before, describe, test } from "node:test";
import { skipWithout } from "../support/skip.ts";
import { hasGo, install } from "./install.ts";
import { runSuite, type SuiteOptions } from "./runner.ts";

/** Number of cases for the features in server.yaml and client.yaml, by the Connect that the programs under test use. */
const CASES = {
  "2.2": { server: 5266, client: 6872 },
  "2.3": { server: 4942, client: 6872 },
};
/** Left out with Connect 2.3: these take most of the time. */
const SLOW_CASES = ["Server Message Size/**"];

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

  for (const connect of ["2.2", "2.3"] as const) {
    const server = { mode: "server", connect, skip: connect === "2.3" ? SLOW_CASES : [] } as const;

    test(`passes on the server's fast path, with Connect ${connect}`, async () => {
      await assertPasses({ ...server, runner });
    });

    test(`passes on the server's fallback, with Connect ${connect}`, async () => {
      await assertPasses({ ...server, runner, flags: ["--fallback"] });
    });

    test(`passes on the pool's fast path, with Connect ${connect}`, async () => {
      await assertPasses({ mode: "client", connect, runner });
    });

    test(`passes on the pool's fallback, with Connect ${connect}`, async () => {
      await assertPasses({ mode: "client", connect, runner, flags: ["--fallback"] });
    });
  }
});

async function assertPasses(options: SuiteOptions): Promise<void> {
  const { total, passed, report } = await runSuite(options);
  assert.equal(passed, total, report);
  if (process.env["CONFORMANCE_CASES"] === undefined) {
    assert.equal(total, CASES[options.connect][options.mode], report);
  } else assert.ok(total > 0, report);
}
