import type { Balancer, Candidate } from "./balancer.ts";
import { candidateAt } from "./candidate-at.ts";
import { hashNumber, hashText } from "./hash.ts";

const RANGE = 2 ** 32;

/**
 * Calls with one key to one peer, in every process alike: weighted rendezvous hashing (Thaler and Ravishankar's, with
 * the logarithm for weights). Each peer draws a number from the key and its own address, and the best wins. When a peer
 * goes, only its keys move, spread over the others by their weights; when one comes, it takes only its share.
 *
 * A call without a key goes to a random peer.
 */
export function createConsistentHash(random: () => number): Balancer {
  let known: readonly Candidate[] = [];
  let seeds = new Int32Array(0);
  return {
    pick(candidates, { hashKey }) {
      if (candidates !== known) {
        seeds = Int32Array.from(candidates, ({ address }) => hashText(address, 0));
        known = candidates;
      }
      const key = hashKey === undefined ? Math.floor(random() * RANGE) : hashText(hashKey, 0);
      let best = candidateAt(candidates, 0);
      let bestScore = Number.NEGATIVE_INFINITY;
      for (let index = 0; index < seeds.length; index++) {
        const candidate = candidateAt(candidates, index);
        const draw = ((hashNumber(key, seeds[index] ?? 0) >>> 0) + 0.5) / RANGE;
        const score = Math.log(draw) / candidate.weight;
        if (score > bestScore) {
          best = candidate;
          bestScore = score;
        }
      }
      return best;
    },
  };
}
