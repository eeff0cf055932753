import assert from "node:assert/strict";
import { test } from "node:test";
import type { Candidate } from "./balancer.ts";
import { createConsistentHash } from "./consistent-hash.ts";
import { candidate, candidates, context, seededRandom } from "./test-support.ts";

const KEYS = Array.from({ length: 20_000 }, (_, index) => `user-${index}`);

function homes(among: readonly Candidate[]): string[] {
  const balancer = createConsistentHash(Math.random);
  return KEYS.map((key) => balancer.pick(among, context(key)).address);
}

function shareOf(addresses: readonly string[], address: string): number {
  return addresses.filter((one) => one === address).length / addresses.length;
}

test("calls with one key go to one peer, whatever the process and the order of the list", () => {
  const among = candidates(7);
  assert.deepEqual(homes(among), homes(among));
  assert.deepEqual(homes(among.toReversed()), homes(among));
});

test("where a key goes never changes from one version to the next", () => {
  const balancer = createConsistentHash(Math.random);
  const among = candidates(10);
  const places = ["", "a", "user-1", "9f1c", "größe"].map((key) => among.indexOf(balancer.pick(among, context(key))));
  assert.deepEqual(places, [5, 0, 0, 7, 8]);
});

test("keys spread over the peers by weight", () => {
  const among = [candidate("a:1", 1), candidate("b:1", 2), candidate("c:1", 3), candidate("d:1", 4)];
  const found = homes(among);
  for (const { address, weight } of among) {
    const share = shareOf(found, address);
    assert.ok(Math.abs(share - weight / 10) < 0.015, `${address} has ${share}`);
  }
});

test("when a peer goes only its keys move, and over all others", () => {
  const among = candidates(8);
  const before = homes(among);
  for (const gone of among) {
    const rest = among.filter((one) => one !== gone);
    const after = homes(rest);
    const moved = after.filter((_, index) => before[index] === gone.address);
    for (const [index, address] of after.entries()) {
      if (before[index] !== gone.address) assert.equal(address, before[index]);
    }
    for (const { address } of rest) assert.ok(Math.abs(shareOf(moved, address) - 1 / 7) < 0.04);
  }
});

test("a peer that comes takes its share and nothing else moves", () => {
  for (let round = 0; round < 10; round++) {
    const among = candidates(9);
    const fresh = candidate(`10.0.1.${round}:9002`);
    const before = homes(among);
    const after = homes([...among, fresh]);
    const moved = after.filter((address, index) => address !== before[index]);
    assert.ok(moved.every((address) => address === fresh.address));
    assert.ok(Math.abs(moved.length / KEYS.length - 1 / 10) < 0.015, String(moved.length));
  }
});

test("a peer that gains weight takes keys from the others, and none go elsewhere", () => {
  const among = candidates(5);
  const before = homes(among);
  among[2]!.weight = 2;
  const moved = homes(among).filter((address, index) => address !== before[index]);
  assert.ok(moved.length > 0 && moved.every((address) => address === among[2]!.address));
});

test("calls without a key are spread by weight", () => {
  const among = [candidate("a:1", 1), candidate("b:1", 3)];
  const balancer = createConsistentHash(seededRandom(1));
  const picked = Array.from({ length: 10_000 }, () => balancer.pick(among, context()).address);
  assert.ok(Math.abs(shareOf(picked, "b:1") - 0.75) < 0.02);
});

test("an empty key is a key", () => {
  const among = candidates(5);
  const balancer = createConsistentHash(Math.random);
  const first = balancer.pick(among, context(""));
  for (let call = 0; call < 100; call++) assert.equal(balancer.pick(among, context("")), first);
});

test("to pick from nothing is a mistake", () => {
  assert.throws(() => createConsistentHash(Math.random).pick([], context("a")), RangeError);
});
