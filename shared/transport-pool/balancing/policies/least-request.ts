import type { Balancer, Candidate } from "./balancer.ts";
import { candidateAt } from "./candidate-at.ts";

/**
 * The power of two choices (gRFC A48, choice_count 2): of two peers drawn at random the one where a call costs less, by
 * how long its answers take, how many it is working on, and its weight. No peer is stormed by all at once, as the best
 * of all would be, and the slowest gets next to nothing.
 */
export function createLeastRequest(random: () => number): Balancer {
  return {
    pick(candidates, { now }) {
      const count = candidates.length;
      if (count <= 1) return candidateAt(candidates, 0);
      const one = Math.floor(random() * count);
      const skip = Math.floor(random() * (count - 1));
      const first = candidateAt(candidates, one);
      const second = candidateAt(candidates, skip < one ? skip : skip + 1);
      // The pair is in random order, and so an even choice falls on either.
      return costsLess(second, first, now) ? second : first;
    },
  };
}

function costsLess(one: Candidate, other: Candidate, now: number): boolean {
  const oneMs = one.latencyMs(now);
  const otherMs = other.latencyMs(now);
  // One that nobody knows yet is taken to be as quick as the other.
  const ratio = oneMs === undefined || otherMs === undefined ? 1 : oneMs / otherMs;
  return (ratio * (one.inFlight + 1)) / one.weight < (other.inFlight + 1) / other.weight;
}
