// What a pool holds after very many calls, some of which lose their connection.

import assert from "node:assert/strict";
import process from "node:process";
import { after, test } from "node:test";
import { within } from "#shared/testing";
import { killPrograms, runProgram } from "../../support/service-process.ts";
import { RETRY } from "../support/book-service.ts";
import type { CallerOptions, CallerReport } from "../support/caller.ts";

after(killPrograms);

/** Together 100,000; each as many with FULL_FAULTS=1. */
const CALLS = process.env["FULL_FAULTS"] === "1" ? 100_000 : 50_000;

/** Two looks may differ by so much: caches that still fill, code that is compiled. Some tens of bytes a call. */
const HEAP_TOLERANCE = 1_500_000;

const TIMEOUT_MS = 280_000;

for (const [how, service] of Object.entries({
  "retries whose attempts have a timeout": { retry: { ...RETRY, attempt_timeout: "2s" } },
  hedges: { hedge: { delay: "1s", max: 2 } },
})) {
  test(`11: with ${how}, ${CALLS} calls later nothing is left of them: no connection, timer, listener or memory`, async (t) => {
    const options: CallerOptions = { calls: CALLS, warmUp: CALLS / 2, callsPerCut: 2_500, service };
    const program = runProgram("test/faults/support/caller.ts", { env: { CALLER: JSON.stringify(options) } });
    // It also ends by itself: nothing of the pool keeps it.
    assert.equal(await within(program.exit, "the calls", TIMEOUT_MS), 0, program.stderr());
    const report = JSON.parse(program.stdout[0] ?? "{}") as CallerReport;
    const growth = report.after.heap - report.before.heap;
    t.diagnostic(`heap: ${Math.round(growth / 1_000)} kB more; ${JSON.stringify(report.after.resources)}`);
    assert.deepEqual(report.failures, {});
    assert.deepEqual(report.after.resources, report.before.resources);
    assert.equal(report.listeners, 0);
    assert.equal(report.openCalls, 0);
    assert.deepEqual(report.warnings, []);
    assert.ok(growth < HEAP_TOLERANCE, `${growth} bytes more after ${CALLS / 2} calls`);
  });
}
