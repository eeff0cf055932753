import type { Balancer, Candidate } from "./balancer.ts";
import { candidateAt } from "./candidate-at.ts";

/** All calls to one peer: the first that there is, for as long as it is among the candidates. */
export function createPickFirst(): Balancer {
  let known: readonly Candidate[] = [];
  let place = 0;
  let address: string | undefined;
  return {
    pick(candidates, { isPartial = false }) {
      // A call that goes elsewhere takes no others along.
      if (isPartial) return candidates.find((candidate) => candidate.address === address) ?? candidateAt(candidates, 0);
      if (candidates !== known) {
        place = Math.max(
          candidates.findIndex((candidate) => candidate.address === address),
          0,
        );
        known = candidates;
        address = candidates[place]?.address;
      }
      return candidateAt(candidates, place);
    },
  };
}
