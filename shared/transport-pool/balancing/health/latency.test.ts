import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "../policies/test-support.ts";
import { createLatency } from "./latency.ts";

const SECOND = 1_000;

/** A latency of a peer that has answered for a while, each time in so long. */
function steady(ms: number, until = 0) {
  const latency = createLatency();
  for (let now = until - 30 * SECOND; now <= until; now += 100) latency.record(ms, false, now);
  return latency;
}

function known(latency: { value(now: number): number | undefined }, now: number): number {
  const value = latency.value(now);
  assert.ok(value !== undefined, "nothing is known");
  return value;
}

test("nothing is known before the first answer", () => {
  assert.equal(createLatency().value(0), undefined);
});

test("a peer that always takes as long is known to take that long", () => {
  assert.equal(steady(20).value(0), 20);
});

test("a slower answer is believed at once", () => {
  const latency = steady(10);
  latency.record(500, false, 1);
  assert.equal(latency.value(1), 500);
});

test("quicker answers are believed bit by bit, by time and not by number", () => {
  const few = steady(500);
  const many = steady(500);
  for (let now = 500; now <= 2 * SECOND; now += 500) few.record(10, false, now);
  for (let now = 5; now <= 2 * SECOND; now += 5) many.record(10, false, now);
  // 37 % of the old after the 2 s of the time constant.
  for (const latency of [few, many]) {
    assert.ok(Math.abs(known(latency, 2 * SECOND) - (10 + 490 / Math.E)) < 1e-6);
  }
  for (let now = 2 * SECOND; now <= 30 * SECOND; now += 100) many.record(10, false, now);
  assert.ok(known(many, 30 * SECOND) < 12);
});

test("one that was slow looks quick enough to be tried again, though nothing was sent there", () => {
  const slow = steady(1_000);
  assert.ok(known(slow, 1 * SECOND) > 600);
  assert.ok(known(slow, 10 * SECOND) < 10);
  // One answer after that shows how it is.
  slow.record(9, false, 10 * SECOND);
  assert.ok(known(slow, 10 * SECOND) < 20);
  slow.record(1_000, false, 11 * SECOND);
  assert.equal(slow.value(11 * SECOND), 1_000);
});

test("reading changes nothing", () => {
  const read = steady(100);
  const unread = steady(100);
  for (let now = 0; now < 3 * SECOND; now += 10) read.value(now);
  for (const latency of [read, unread]) latency.record(50, false, 3 * SECOND);
  assert.equal(read.value(4 * SECOND), unread.value(4 * SECOND));
});

test("after a minute without an answer nothing is known", () => {
  const latency = steady(10);
  assert.notEqual(latency.value(59 * SECOND), undefined);
  assert.equal(latency.value(60 * SECOND), undefined);
});

test("a fast failure counts as five times the average", () => {
  const latency = steady(20);
  latency.record(1, true, 0);
  assert.equal(latency.value(0), 100);
});

test("a slow failure counts as slow as it was", () => {
  const latency = steady(20);
  latency.record(30_000, true, 0);
  assert.equal(latency.value(0), 30_000);
});

test("failures in a row count for ten seconds at the most", () => {
  const latency = steady(20);
  for (let now = 0; now < 100; now++) latency.record(1, true, now);
  assert.ok(known(latency, 100) <= 10_000);
  assert.ok(known(latency, 100) > 9_000);
});

test("one that fails fast from the first call on looks slow", () => {
  const latency = createLatency();
  latency.record(0.2, true, 0);
  assert.equal(latency.value(0), 1_000);
});

test("whatever comes, the value is at least 0.1 ms, and no more than the slowest answer or 10 s", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = seededRandom(seed);
    const latency = createLatency();
    let now = 0;
    let slowest = 10_000;
    for (let call = 0; call < 500; call++) {
      // Clocks of answers that overlap may even seem to go back.
      now += random() * 2_000 - 100;
      const ms = random() < 0.1 ? random() * 20_000 : random() * 20;
      slowest = Math.max(slowest, ms);
      latency.record(ms, random() < 0.2, now);
      const value = known(latency, now + random() * 30_000);
      assert.ok(value >= 0.1 && value <= slowest, `seed ${seed}: ${value}`);
    }
  }
});

test("what is forgotten is unknown, and the next answer is the first", () => {
  const latency = createLatency();
  latency.record(9_000, true, 0);
  latency.forget();
  assert.equal(latency.value(0), undefined);
  latency.record(10, false, 1);
  assert.equal(latency.value(1), 10);
});
