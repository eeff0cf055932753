/**
 * Measures the peers one after the other, round after round, so that what else the machine does meets all of them. Every
 * other round goes backwards; a first one warms up and counts for nothing.
 */
export async function inRounds<Name extends string, Result>(
  rounds: number,
  peers: Readonly<Record<Name, () => Promise<Result>>>,
): Promise<Readonly<Record<Name, readonly Result[]>>> {
  const names = Object.keys(peers) as Name[];
  const results = Object.fromEntries(names.map((name) => [name, [] as Result[]])) as Record<Name, Result[]>;
  for (let round = 0; round <= rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const result = await peers[name]();
      if (round > 0) results[name].push(result);
    }
  }
  return results;
}

/** The value that `share` of the values are not above: 0.5 is the median. NaN of no values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The median over rounds of ours ÷ the peer's in the same round: noise that lasts for a round cancels out. */
export function medianRatio(ours: readonly number[], peers: readonly number[]): number {
  return median(ours.map((value, round) => value / (peers[round] ?? Number.NaN)));
}
