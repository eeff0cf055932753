import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { inRounds, median, medianRatio, quantile } from "./rounds.ts";

describe("rounds", () => {
  test("go there and back, and the first of them counts for nothing", async () => {
    const order: string[] = [];
    const peer = (name: string) => async () => order.push(name);
    const results = await inRounds(2, { a: peer("a"), b: peer("b") });
    assert.deepEqual(order, ["a", "b", "b", "a", "a", "b"]);
    assert.deepEqual(results, { a: [4, 5], b: [3, 6] });
  });

  test("end after the limit, when one has counted", async () => {
    let calls = 0;
    const results = await inRounds(5, { a: async () => ++calls }, 0);
    assert.deepEqual(results, { a: [2] });
  });

  test("are summed up by a value that was measured", () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(quantile([1, 2, 3, 4], 0.5), 2);
    assert.equal(
      quantile(
        Array.from({ length: 100 }, (_, index) => 100 - index),
        0.99,
      ),
      99,
    );
    assert.ok(Number.isNaN(median([])));
  });

  test("that are slow for both leave the ratio as it is", () => {
    assert.equal(medianRatio([10, 1_000, 10], [20, 2_000, 20]), 0.5);
  });
});
