import assert from "node:assert/strict";
import { test } from "node:test";
import { createLatency } from "../health/latency.ts";
import { createLeastRequest } from "./least-request.ts";
import { candidate, candidates, context, seededRandom, type TestCandidate } from "./test-support.ts";

/** How many of so many picks fell on each, nothing changing between them. */
function shares(among: readonly TestCandidate[], count = 10_000): number[] {
  const balancer = createLeastRequest(seededRandom(1));
  const picked = new Map<TestCandidate, number>();
  for (let call = 0; call < count; call++) {
    const one = balancer.pick(among, context());
    picked.set(one, (picked.get(one) ?? 0) + 1);
  }
  return among.map((one) => (picked.get(one) ?? 0) / count);
}

function near(actual: number | undefined, expected: number): void {
  assert.ok(actual !== undefined && Math.abs(actual - expected) < 0.02, `${actual} is not about ${expected}`);
}

test("equal peers get equal shares", () => {
  for (const share of shares(candidates(4))) near(share, 1 / 4);
});

test("of two peers the one with fewer calls on their way is taken", () => {
  const among = candidates(2);
  among[0]!.inFlight = 1;
  assert.deepEqual(shares(among), [0, 1]);
});

test("of two peers the quicker is taken, until it has so much to do that the other costs less", () => {
  const among = candidates(2);
  among[0]!.latencyMs = () => 30;
  among[1]!.latencyMs = () => 10;
  assert.deepEqual(shares(among), [0, 1]);
  among[1]!.inFlight = 3;
  assert.deepEqual(shares(among), [1, 0]);
  among[1]!.inFlight = 2;
  near(shares(among)[0], 1 / 2);
});

test("a heavier peer costs less", () => {
  const among = [candidate("light"), candidate("heavy", 3)];
  among[0]!.inFlight = 1;
  among[1]!.inFlight = 4;
  assert.deepEqual(shares(among), [0, 1]);
  among[1]!.inFlight = 6;
  assert.deepEqual(shares(among), [1, 0]);
});

test("a peer that nobody knows yet is taken to be as quick as the other", () => {
  const among = candidates(2);
  among[0]!.latencyMs = () => 500;
  near(shares(among)[0], 1 / 2);
  among[1]!.inFlight = 1;
  assert.deepEqual(shares(among), [1, 0]);
});

test("two different peers are compared: the worst of all is never taken", () => {
  const among = candidates(3);
  among[2]!.inFlight = 1;
  assert.equal(shares(among)[2], 0);
});

test("there is no choice with one peer, and to pick from nothing is a mistake", () => {
  const [one] = candidates(1);
  assert.equal(createLeastRequest(Math.random).pick([one!], context()), one);
  assert.throws(() => createLeastRequest(Math.random).pick([], context()), RangeError);
});

interface Peer extends TestCandidate {
  /** How long its answers take at a time. */
  answerMs(now: number): number;
  fails: boolean;
  readonly latency: ReturnType<typeof createLatency>;
}

function peer(address: string, answerMs: (now: number) => number, fails = false): Peer {
  const latency = createLatency();
  return { ...candidate(address), answerMs, fails, latency, latencyMs: latency.value };
}

/** A call each millisecond of a clock that only counts, and how many went to each peer from one time to another. */
function simulate(peers: readonly Peer[], seed: number, untilMs: number) {
  const balancer = createLeastRequest(seededRandom(seed));
  const answers = new Map<number, { to: Peer; ms: number }[]>();
  const sent: Peer[] = [];
  for (let now = 0; now < untilMs; now++) {
    for (const { to, ms } of answers.get(now) ?? []) {
      to.inFlight--;
      to.latency.record(ms, to.fails, now);
    }
    answers.delete(now);
    const to = balancer.pick(peers, context(undefined, now));
    to.inFlight++;
    sent.push(to);
    const ms = Math.max(Math.round(to.answerMs(now)), 1);
    const at = now + ms;
    answers.set(at, [...(answers.get(at) ?? []), { to, ms }]);
  }
  return (one: Peer, from: number, to: number) => sent.slice(from, to).filter((other) => other === one).length;
}

test("a slow peer gets next to nothing", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const peers = [peer("a", () => 5), peer("b", () => 5), peer("c", () => 5), peer("slow", () => 500)];
    const sentTo = simulate(peers, seed, 30_000);
    const toSlow = sentTo(peers[3]!, 1_000, 30_000);
    assert.ok(toSlow < 290, `${toSlow} of 29000 calls went to the slow one`);
    for (const quick of peers.slice(0, 3)) assert.ok(sentTo(quick, 1_000, 30_000) > 7_000);
  }
});

test("a peer that was slow and is well again has its share again after half a minute", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const recovering = peer("d", (now) => (now < 10_000 ? 1_000 : 5));
    const peers = [peer("a", () => 5), peer("b", () => 5), peer("c", () => 5), recovering];
    const sentTo = simulate(peers, seed, 60_000);
    assert.ok(sentTo(recovering, 2_000, 10_000) < 100);
    const share = sentTo(recovering, 50_000, 60_000) / 10_000;
    assert.ok(share > 0.15, `its share is ${share}`);
  }
});

test("a peer that fails fast does not attract calls", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const failing = peer("failing", () => 1, true);
    const peers = [peer("a", () => 20), peer("b", () => 20), peer("c", () => 20), failing];
    const sentTo = simulate(peers, seed, 20_000);
    const toFailing = sentTo(failing, 0, 20_000);
    assert.ok(toFailing < 200, `${toFailing} of 20000 calls went to the failing one`);
  }
});

test("peers that were idle for different times are not stormed", () => {
  const long = peer("long", () => 10);
  const short = peer("short", () => 10);
  long.latency.record(10, false, -58_000);
  short.latency.record(10, false, -30_000);
  const sentTo = simulate([long, short], 1, 1_000);
  assert.ok(sentTo(long, 0, 1_000) > 300 && sentTo(short, 0, 1_000) > 300);
});
