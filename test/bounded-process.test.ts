import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type TestContext, test } from "node:test";
import { closeAfter } from "#shared/testing";

const preload = join(import.meta.dirname, "support/bounded-process.ts");

/** Runs a test file of these lines as `npm test` does. */
async function runFile(t: TestContext, lines: string) {
  const folder = await mkdtemp(join(tmpdir(), "meridian-bounded-"));
  closeAfter(t, () => rm(folder, { recursive: true }));
  const file = join(folder, "one.test.ts");
  await writeFile(file, `import { after, mock, test } from "node:test";\n${lines}`);
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { status, signal, stdout } = spawnSync(process.execPath, ["--import", preload, "--test", file], {
    env: { ...env, TEST_EXIT_TIMEOUT_MS: "500" },
    encoding: "utf8",
    timeout: 60_000,
  });
  return { status, signal, stdout };
}

const OPEN = "setInterval(() => {}, 1_000);";

for (const [what, lines] of [
  ["a test that leaves something open", `test("a", () => { ${OPEN} });`],
  ["a test that fails before it closes it", `test("a", () => { ${OPEN} throw new Error("failed"); });`],
  ["the file itself", `${OPEN} test("a", () => {});`],
  ["a hook that does not end", `after(() => new Promise(() => { ${OPEN} }), { timeout: 100 }); test("a", () => {});`],
  ["a test that mocks timers", `test("a", () => { ${OPEN} mock.timers.enable(); });`],
] as const) {
  test(`${what} does not keep the process alive, and fails`, async (t) => {
    const { status, signal, stdout } = await runFile(t, lines);
    assert.deepEqual([status, signal], [1, null], stdout);
    assert.match(stdout, /has not ended 500 ms after its tests; still open: .*Timeout/);
  });
}

test("a file that ends by itself passes, with all of its output", async (t) => {
  const { status, stdout } = await runFile(t, 'test("a", () => console.log("x".repeat(300_000)));');
  assert.equal(status, 0, stdout);
  assert.ok(stdout.includes("x".repeat(300_000)));
});
