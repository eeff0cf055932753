import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

/** What a process prints that logs in this way; its stdout is a pipe. */
function printedBy(program: string): string[] {
  const code = `
    import { writeSync } from "node:fs";
    import { createLogger } from "#shared/logging";
    const logger = createLogger({ name: "it", config: { level: "info", format: "json" } });
    const other = createLogger({ name: "other", config: { level: "info", format: "json" } });
    const mark = (text) => writeSync(1, JSON.stringify({ msg: text }) + "\\n");
    ${program}`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", code], { encoding: "utf8" });
  return stdout
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { msg: string }).msg);
}

test("lines wait for others, and those of several loggers stay in order", () => {
  assert.deepEqual(printedBy(`logger.info("one"); other.info("two"); logger.info("three"); mark("mark");`), [
    ...["mark", "one", "two", "three"],
  ]);
});

test("a warning goes out at once, after what was said before it", () => {
  assert.deepEqual(printedBy(`logger.info("one"); logger.child({}).warn("two"); mark("mark"); logger.info("three");`), [
    ...["one", "two", "mark", "three"],
  ]);
});

test("many lines go out before their time", () => {
  const lines = printedBy(`for (let i = 0; i < 200; i++) logger.info("x".repeat(100)); mark("mark");`);
  assert.equal(lines.length, 201);
  assert.ok(lines.indexOf("mark") > 100);
});

test("few lines go out by themselves, and at a flush", () => {
  const wait = `await new Promise((resolve) => setTimeout(resolve, 500));`;
  assert.deepEqual(
    printedBy(`logger.info("one"); ${wait} mark("mark"); logger.info("two"); logger.flush(); mark("end");`),
    [...["one", "mark", "two", "end"]],
  );
});

test("nothing is lost when the process exits or crashes", () => {
  assert.deepEqual(printedBy(`logger.info("one"); process.exit(3);`), ["one"]);
  assert.deepEqual(printedBy(`logger.info("one"); setImmediate(() => { throw new Error("down"); });`), ["one"]);
  assert.deepEqual(printedBy(`logger.info("one"); Promise.reject(new Error("down"));`), ["one"]);
});
