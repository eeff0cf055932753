import assert from "node:assert/strict";
import { test } from "node:test";
import { isoTime } from "./iso-time.ts";

test("times are written as Date writes them, also when they go back", () => {
  const starts = [0, 951_782_399_000, 1_767_225_599_990, 4_102_444_800_000];
  for (const start of [...starts, ...starts.toReversed()]) {
    for (let ms = start; ms < start + 1_100; ms += 7) assert.equal(isoTime(ms), new Date(ms).toISOString());
  }
});
