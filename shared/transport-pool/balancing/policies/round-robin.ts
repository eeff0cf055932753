import type { Balancer, Candidate } from "./balancer.ts";
import { candidateAt } from "./candidate-at.ts";

/** When a peer is next, on a clock that only turns move. */
interface Turn {
  due: number;
}

/**
 * One after the other, each as often as its weight says. A peer that has had its turn is due again after 1 / weight, and
 * the one that is due first is picked. So the turns of a peer are evenly spread: with weights 5, 1, 1 the first never
 * gets its five in a row. The first turns are random: processes that start together do not all begin with one peer.
 */
export function createRoundRobin(random: () => number): Balancer {
  // Kept when a peer is not in the list for a moment, as when a retry avoids it.
  const turnOf = new WeakMap<Candidate, Turn>();
  let known: readonly Candidate[] = [];
  let turns: Turn[] = [];
  let reached = 0;

  function adopt(candidates: readonly Candidate[]): void {
    known = candidates;
    turns = candidates.map((candidate) => {
      const turn = turnOf.get(candidate) ?? { due: reached + random() / candidate.weight };
      // Turns that it has missed are not made up for.
      turn.due = Math.max(turn.due, reached);
      turnOf.set(candidate, turn);
      return turn;
    });
  }

  return {
    pick(candidates) {
      if (candidates !== known) adopt(candidates);
      let first = 0;
      let next: Turn | undefined;
      for (let index = 0; index < turns.length; index++) {
        const turn = turns[index];
        if (turn === undefined || (next !== undefined && turn.due >= next.due)) continue;
        first = index;
        next = turn;
      }
      const candidate = candidateAt(candidates, first);
      if (next !== undefined) {
        reached = next.due;
        next.due += 1 / candidate.weight;
      }
      return candidate;
    },
  };
}
