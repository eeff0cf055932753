import assert from "node:assert/strict";
import { test } from "node:test";
import { outgoingTimeoutMs } from "./deadline.ts";

const NONE = undefined;
const FOR_EVER = Number.POSITIVE_INFINITY;

for (const [what, explicitMs, defaultMs, remainingMs, expected] of [
  ["no limit at all means none", NONE, NONE, FOR_EVER, undefined],
  ["without an explicit timeout, the service's holds", NONE, 5_000, FOR_EVER, 5_000],
  ["an explicit timeout may be shorter than the service's", 100, 5_000, FOR_EVER, 100],
  ["an explicit timeout may be longer than the service's", 9_000, 5_000, FOR_EVER, 9_000],
  ["an explicit timeout of 0 turns the service's off", 0, 5_000, FOR_EVER, undefined],
  ["what the incoming call has left, less 50 ms, is an upper bound", 9_000, 5_000, 2_000, 1_950],
  ["it bounds calls without any timeout of their own too", 0, 5_000, 2_000, 1_950],
  ["of a short rest a tenth is kept back", NONE, 5_000, 400, 360],
  ["of a shorter one 20 ms, which an answer needs on a busy machine", NONE, 5_000, 100, 80],
  ["of a very short one half", NONE, 5_000, 20, 10],
  ["a shorter timeout of its own is not cut further", 500, 5_000, 520, 470],
  ["a rest of less than a millisecond is none", NONE, 5_000, 0.5, 0],
  ["nothing left is nothing left, whatever was asked", 9_000, 5_000, 0, 0],
  ["fractions of an own timeout count as a whole millisecond", 0.2, 5_000, FOR_EVER, 1],
  ["a timeout is cut to what grpc-timeout can carry", 1e12, 5_000, FOR_EVER, 99_999_999],
] as const) {
  test(what, () => {
    assert.equal(outgoingTimeoutMs({ explicitMs, defaultMs, remainingMs }), expected);
  });
}
