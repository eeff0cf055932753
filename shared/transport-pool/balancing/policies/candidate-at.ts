/** The candidate at this place. A balancer is asked only when there is one: none is a mistake of the caller. */
export function candidateAt<C>(candidates: readonly C[], index: number): C {
  const candidate = candidates[index];
  if (candidate === undefined) throw new RangeError("a balancer was asked to pick from no candidates");
  return candidate;
}
