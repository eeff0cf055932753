// Preloaded into every test process (`--import`): when something keeps the process alive after its tests, ends it and
// fails the file. `--test-timeout` bounds tests and hooks only, and `--test-force-exit` would hide what was left open.

import process from "node:process";
import { after } from "node:test";
import { isMainThread } from "node:worker_threads";

/** From the end of the tests; the file's own `after` hooks run in this time. */
const AFTER_TESTS_MS = Number(process.env["TEST_EXIT_TIMEOUT_MS"] ?? 60_000);
const WHOLE_FILE_MS = 20 * 60_000;

// Tests put a mock in place of the global one.
const startTimer = setTimeout;

/** Workers and processes that a test starts inherit the option. */
const isTestFile = isMainThread && process.argv[1]?.endsWith(".test.ts") === true;

function exitLater(ms: number, reason: string): void {
  const exit = () => {
    const resources = process.getActiveResourcesInfo().join(", ");
    process.stderr.write(`${process.argv[1]}: ${reason}; still open: ${resources}\n`);
    process.exit(1);
  };
  startTimer(exit, ms).unref();
}

if (isTestFile) {
  exitLater(WHOLE_FILE_MS, `the tests have not ended after ${WHOLE_FILE_MS} ms`);
  after(() => exitLater(AFTER_TESTS_MS, `the process has not ended ${AFTER_TESTS_MS} ms after its tests`));
}
