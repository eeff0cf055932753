import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { until } from "#shared/testing";
import { createFileWatch } from "./file-watch.ts";

function setUp(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), "meridian-watch-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "file");
  writeFileSync(file, "one");
  function watch(intervalMs = 5) {
    let changes = 0;
    const watched = createFileWatch({ files: [file], intervalMs, onChange: () => changes++ });
    t.after(() => watched.stop());
    return { ...watched, changes: () => changes };
  }
  function replace(text: string): void {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  }
  return { file, watch, replace };
}

test("a change is told once, and so is the next", async (t) => {
  const { watch, replace } = setUp(t);
  const watched = watch();
  watched.start();
  replace("two");
  await until("a change", () => watched.changes() === 1);
  // Seen later than the first, and nothing was told in between.
  replace("three");
  await until("another change", () => watched.changes() > 1);
  assert.equal(watched.changes(), 2);
});

test("what changes between the making and the start is a change", async (t) => {
  const { watch, replace } = setUp(t);
  const watched = watch();
  replace("two");
  watched.start();
  await until("a change", () => watched.changes() === 1);
});

test("a file that goes away is a change, and that it is back another", async (t) => {
  const { file, watch, replace } = setUp(t);
  const watched = watch();
  watched.start();
  rmSync(file);
  await until("a change", () => watched.changes() === 1);
  replace("two");
  await until("another change", () => watched.changes() === 2);
});

test("stopped, never started, or told never to look, it tells nothing", async (t) => {
  const { watch, replace } = setUp(t);
  const [going, stopped, idle, never] = [watch(), watch(), watch(), watch(0)] as const;
  for (const watched of [going, stopped, never]) watched.start();
  stopped.stop();
  for (const count of [1, 2, 3]) {
    replace(`change ${count}`);
    await until("a change", () => going.changes() === count);
  }
  assert.deepEqual(
    [stopped, idle, never].map(({ changes }) => changes()),
    [0, 0, 0],
  );
});
