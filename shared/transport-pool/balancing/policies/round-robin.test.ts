import assert from "node:assert/strict";
import { test } from "node:test";
import type { Candidate } from "./balancer.ts";
import { createRoundRobin } from "./round-robin.ts";
import { candidate, candidates, context, seededRandom } from "./test-support.ts";

function picks(balancer: ReturnType<typeof createRoundRobin>, among: readonly Candidate[], count: number): string[] {
  return Array.from({ length: count }, () => balancer.pick(among, context()).address);
}

function countOf(addresses: readonly string[], address: string): number {
  return addresses.filter((one) => one === address).length;
}

test("peers of one weight take turns in a fixed order", () => {
  const among = candidates(5);
  const balancer = createRoundRobin(seededRandom(1));
  const round = picks(balancer, among, 5);
  assert.equal(new Set(round).size, 5);
  for (let turn = 0; turn < 100; turn++) assert.deepEqual(picks(balancer, among, 5), round);
});

test("processes begin with different peers", () => {
  const among = candidates(5);
  const firsts = Array.from({ length: 1_000 }, (_, seed) => picks(createRoundRobin(seededRandom(seed)), among, 1)[0]!);
  for (const { address } of among) {
    const share = countOf(firsts, address);
    assert.ok(share > 140 && share < 260, `${address} was first ${share} times`);
  }
});

test("each peer gets the share of its weight in every stretch, to one call or two, and no bursts", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = seededRandom(seed);
    const among = candidates(2 + Math.floor(random() * 8));
    for (const one of among) one.weight = 1 + Math.floor(random() * 10);
    const total = among.reduce((sum, { weight }) => sum + weight, 0);
    const sequence = picks(createRoundRobin(random), among, 2_000);
    for (let stretch = 0; stretch < 20; stretch++) {
      const start = Math.floor(random() * 1_000);
      const length = 1 + Math.floor(random() * 1_000);
      const part = sequence.slice(start, start + length);
      for (const { address, weight } of among) {
        // The others' turns are rounded too, and all of that rounding may fall on the heaviest.
        const off = countOf(part, address) - (length * weight) / total;
        assert.ok(Math.abs(off) <= 1 + (weight * among.length) / total, `seed ${seed}: ${address} is ${off} off`);
      }
    }
  }
});

test("the turns of a heavy peer are spread between the others'", () => {
  const among = [candidate("a", 5), candidate("b"), candidate("c")];
  const sequence = picks(createRoundRobin(seededRandom(3)), among, 700).join("");
  assert.equal(sequence.replaceAll(/[^a]/g, "").length, 500);
  assert.ok(!sequence.includes("aaaaaa"));
});

test("a new peer comes in at once, and takes its share and no more", () => {
  const among = candidates(4);
  const balancer = createRoundRobin(seededRandom(4));
  picks(balancer, among, 999);
  const more = [...among, candidate("new")];
  assert.equal(countOf(picks(balancer, more, 500), "new"), 100);
});

test("a list without one peer, as of a retry, leaves the turns of the others as they were", () => {
  const among = candidates(4);
  const balancer = createRoundRobin(seededRandom(5));
  const [first, second, third, fourth] = picks(balancer, among, 4);
  picks(balancer, among, 2);
  const untried = among.filter(({ address }) => address !== third);
  assert.deepEqual(picks(balancer, untried, 1), [fourth]);
  assert.deepEqual(picks(balancer, among, 3), [third, first, second]);
});

test("a peer that was away does not make up for the turns that it missed", () => {
  const among = candidates(3);
  const balancer = createRoundRobin(seededRandom(6));
  picks(balancer, among, 30);
  picks(balancer, among.slice(1), 1_000);
  const sequence = picks(balancer, among, 30);
  for (const { address } of among) {
    const count = countOf(sequence, address);
    assert.ok(count >= 9 && count <= 11, `${address} had ${count} turns of 30`);
  }
});

test("to pick from nothing is a mistake", () => {
  assert.throws(() => createRoundRobin(Math.random).pick([], context()), RangeError);
});
