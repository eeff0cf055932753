import type { Candidate, PickContext } from "./balancer.ts";

/** A peer whose state the test sets. */
export interface TestCandidate extends Candidate {
  weight: number;
  inFlight: number;
  latencyMs: (now: number) => number | undefined;
}

export function candidate(address: string, weight = 1): TestCandidate {
  return { address, weight, inFlight: 0, latencyMs: () => undefined };
}

/** So many peers, each with its own address. */
export function candidates(count: number): TestCandidate[] {
  return Array.from({ length: count }, (_, index) => candidate(`10.0.0.${index}:9002`));
}

/** What a call without a key, or with this one, brings. */
export function context(hashKey?: string, now = 0): PickContext {
  return { hashKey, now };
}

/** The same numbers from 0 up to 1 for the same seed, in each run (a linear congruential generator, Knuth's MMIX). */
export function seededRandom(seed: number): () => number {
  let state = BigInt(seed);
  return () => {
    state = BigInt.asUintN(64, state * 6364136223846793005n + 1442695040888963407n);
    return Number(state >> 11n) / 2 ** 53;
  };
}
