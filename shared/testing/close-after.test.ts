import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { test } from "node:test";

/** Runs a test of this body in a process of its own, which something opened keeps alive until it is closed. */
function runTest(body: string) {
  const script = `
    import { test } from "node:test";
    import { closeAfter } from ${JSON.stringify(import.meta.resolve("./close-after.ts"))};
    test("a test", { timeout: 1_000 }, async (t) => {
      const open = (name) => {
        const interval = setInterval(() => {}, 1_000);
        closeAfter(t, () => { clearInterval(interval); console.log("closed " + name); });
      };
      ${body}
    });`;
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const args = ["--input-type=module", "--eval", script];
  const { status, signal, stdout } = spawnSync(process.execPath, args, { env, encoding: "utf8", timeout: 20_000 });
  return { status, signal, closed: [...stdout.matchAll(/closed (\w+)/g)].map(([, name]) => name), stdout };
}

test("what was opened last is closed first, and after the test's own hooks", () => {
  const { status, closed, stdout } = runTest(`
    open("one");
    t.after(() => console.log("closed hook"));
    open("two");`);
  assert.equal(status, 0, stdout);
  assert.deepEqual(closed, ["hook", "two", "one"]);
});

test("the rest is closed when one thing cannot be, and the test fails", () => {
  const { status, closed, stdout } = runTest(`
    open("one");
    closeAfter(t, () => { throw new Error("cannot be closed"); });
    open("two");`);
  assert.equal(status, 1);
  assert.deepEqual(closed, ["two", "one"]);
  assert.match(stdout, /cannot be closed/);
});

for (const [how, line] of [
  ["has failed", 'throw new Error("failed");'],
  ["does not end", "await new Promise(() => {});"],
  ["has a hook that fails", 't.after(() => { throw new Error("failed"); });'],
  ["has a hook that does not end", "t.after(() => new Promise(() => {}), { timeout: 1_000 });"],
] as const) {
  test(`all is closed when the test ${how}`, () => {
    const { status, signal, closed } = runTest(`open("one"); open("two"); ${line}`);
    assert.deepEqual([status, signal, closed], [1, null, ["two", "one"]]);
  });
}
