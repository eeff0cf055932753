import assert from "node:assert/strict";
import { test } from "node:test";
import { candidate, candidates, seededRandom } from "./policies/test-support.ts";
import { subsetOf } from "./subset.ts";

test("all are used when there are no more than wanted", () => {
  const all = candidates(5);
  assert.equal(subsetOf(all, 5, 1), all);
  assert.equal(subsetOf(all, 9, 1), all);
});

test("so many are taken, in their order", () => {
  const all = candidates(50);
  const taken = subsetOf(all, 10, 1);
  assert.equal(taken.length, 10);
  assert.deepEqual(
    taken,
    all.filter((one) => taken.includes(one)),
  );
});

test("the order of the list does not matter", () => {
  const all = candidates(50);
  const taken = subsetOf(all, 10, 1);
  assert.deepEqual(new Set(subsetOf(all.toReversed(), 10, 1)), new Set(taken));
});

test("a peer that comes or goes moves one connection at the most", () => {
  const random = seededRandom(1);
  for (let round = 0; round < 200; round++) {
    const seed = Math.floor(random() * 2 ** 32);
    const all = candidates(30);
    const before = subsetOf(all, 8, seed);
    const gone = all[Math.floor(random() * all.length)]!;
    const less = subsetOf(
      all.filter((one) => one !== gone),
      8,
      seed,
    );
    const kept = before.filter((one) => one !== gone);
    assert.ok(kept.every((one) => less.includes(one)));
    const more = subsetOf([...all, candidate(`new-${round}`)], 8, seed);
    assert.ok(before.filter((one) => !more.includes(one)).length <= 1);
  }
});

test("over many processes, each peer is taken by about as many", () => {
  const random = seededRandom(2);
  const all = candidates(20);
  const taken = new Map<string, number>();
  for (let process = 0; process < 2_000; process++) {
    for (const { address } of subsetOf(all, 5, Math.floor(random() * 2 ** 32))) {
      taken.set(address, (taken.get(address) ?? 0) + 1);
    }
  }
  for (const { address } of all) {
    const count = taken.get(address) ?? 0;
    assert.ok(count > 400 && count < 600, `${address} was taken ${count} times`);
  }
});
