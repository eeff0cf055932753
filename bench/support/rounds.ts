/**
 * Measures the peers one after the other, round after round, so that other work of the machine affects all of them. Every
 * other round goes backwards. A first one warms up and is not counted.
 *
 * @param limitMs no further round begins after this time, except the first that counts. Default: no limit
 */
export async function inRounds<Name extends string, Result>(
  rounds: number,
  peers: Readonly<Record<Name, () => Promise<Result>>>,
  limitMs = Number.POSITIVE_INFINITY,
): Promise<Readonly<Record<Name, readonly Result[]>>> {
  const names = Object.keys(peers) as Name[];
  const results = Object.fromEntries(names.map((name) => [name, [] as Result[]])) as Record<Name, Result[]>;
  const endAt = performance.now() + limitMs;
  for (let round = 0; round <= rounds; round++) {
    if (round > 1 && performance.now() > endAt) break;
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
