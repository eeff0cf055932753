import type { OutlierConfig } from "../../config/outlier.ts";

/** Notices peers that fail more than the others, and says for how long to leave them alone (gRFC A50). */
export interface OutlierEjection {
  /** Counts an answer. `ok` says whether the peer did its work, whatever the answer was. */
  record(address: string, ok: boolean): void;
  /**
   * Judges the interval that ends now. Its owner calls it each `intervalMs`.
   *
   * @param now milliseconds, of a clock that never goes back
   * @param addresses those that there are; what is known of others is forgotten
   */
  sweep(now: number, addresses: readonly string[]): Swept;
  isEjected(address: string): boolean;
  /** By address, for diagnosis. */
  states(): ReadonlyMap<string, OutlierState>;
}

/** What a sweep has changed. */
export interface Swept {
  readonly ejected: string[];
  readonly returned: string[];
}

export interface OutlierState {
  /** On the clock of `sweep`: the first sweep after it returns the address. Undefined when it is not ejected. */
  readonly ejectedUntil: number | undefined;
  /** Ejections, less the intervals without one: so many times the base is how long the last one took. */
  readonly multiplier: number;
  /** Calls of the interval before the last sweep. */
  readonly successes: number;
  readonly failures: number;
}

export interface OutlierEjectionOptions {
  readonly config: OutlierConfig;
  /** Gives numbers from 0 up to 1. Default Math.random. */
  readonly random?: () => number;
}

interface Entry {
  ejectedUntil: number | undefined;
  multiplier: number;
  /** Calls of the interval that the last sweep judged. */
  successes: number;
  failures: number;
  /** Calls since. */
  newSuccesses: number;
  newFailures: number;
}

export function createOutlierEjection({ config, random = Math.random }: OutlierEjectionOptions): OutlierEjection {
  const { baseEjectionTimeMs, maxEjectionTimeMs, maxEjectionPercent, successRate, failurePercentage } = config;
  const longestMs = Math.max(baseEjectionTimeMs, maxEjectionTimeMs);
  const entries = new Map<string, Entry>();

  /** One entry for each address, in their order, with the counters of the interval that ends. */
  function beginSweep(addresses: readonly string[]): void {
    const before = new Map(entries);
    entries.clear();
    for (const address of addresses) {
      const entry = before.get(address) ?? newEntry();
      if (entries.has(address)) continue;
      entry.successes = entry.newSuccesses;
      entry.failures = entry.newFailures;
      entry.newSuccesses = 0;
      entry.newFailures = 0;
      entries.set(address, entry);
    }
  }

  function maySomeBeEjected(): boolean {
    let ejected = 0;
    for (const entry of entries.values()) if (entry.ejectedUntil !== undefined) ejected++;
    return ejected === 0 || (ejected / entries.size) * 100 < maxEjectionPercent;
  }

  /** Ejects those that are outliers by one rule, each by chance, and as far as the limit allows. */
  function eject(rule: Rule, now: number, isOutlier: (entry: Entry) => boolean, ejected: string[]): void {
    for (const [address, entry] of entries) {
      if (!maySomeBeEjected()) return;
      // One that is out already may still have late answers, or the other rule has just ejected it.
      if (entry.ejectedUntil !== undefined || volumeOf(entry) < rule.requestVolume || !isOutlier(entry)) continue;
      if (Math.floor(random() * 100) >= rule.enforcementPercent) continue;
      entry.multiplier++;
      entry.ejectedUntil = now + Math.min(baseEjectionTimeMs * entry.multiplier, longestMs);
      ejected.push(address);
    }
  }

  /** Those with calls enough to be judged; none when they are too few. */
  function judged({ requestVolume, minHosts }: Rule): Entry[] {
    const busy = [...entries.values()].filter((entry) => volumeOf(entry) >= requestVolume);
    return busy.length < minHosts ? [] : busy;
  }

  function ejectBySuccessRate(now: number, ejected: string[]): void {
    const rates = judged(successRate).map(successRateOf);
    if (rates.length === 0) return;
    const mean = average(rates);
    const stdev = Math.sqrt(average(rates.map((rate) => (rate - mean) ** 2)));
    const least = mean - stdev * (successRate.stdevFactor / 1000);
    eject(successRate, now, (entry) => successRateOf(entry) < least, ejected);
  }

  function ejectByFailurePercentage(now: number, ejected: string[]): void {
    if (judged(failurePercentage).length === 0) return;
    const { threshold } = failurePercentage;
    eject(failurePercentage, now, (entry) => (entry.failures / volumeOf(entry)) * 100 > threshold, ejected);
  }

  return {
    record(address, ok) {
      if (!config.enabled) return;
      let entry = entries.get(address);
      if (entry === undefined) {
        entry = newEntry();
        entries.set(address, entry);
      }
      if (ok) entry.newSuccesses++;
      else entry.newFailures++;
    },
    sweep(now, addresses) {
      const ejected: string[] = [];
      const returned: string[] = [];
      if (!config.enabled) return { ejected, returned };
      beginSweep(addresses);
      ejectBySuccessRate(now, ejected);
      ejectByFailurePercentage(now, ejected);
      for (const [address, entry] of entries) {
        if (entry.ejectedUntil === undefined) {
          entry.multiplier = Math.max(entry.multiplier - 1, 0);
        } else if (now > entry.ejectedUntil) {
          entry.ejectedUntil = undefined;
          returned.push(address);
        }
      }
      return { ejected, returned };
    },
    isEjected: (address) => entries.get(address)?.ejectedUntil !== undefined,
    states() {
      const states = new Map<string, OutlierState>();
      for (const [address, { ejectedUntil, multiplier, successes, failures }] of entries) {
        states.set(address, { ejectedUntil, multiplier, successes, failures });
      }
      return states;
    },
  };
}

type Rule = Pick<OutlierConfig["successRate"], "enforcementPercent" | "minHosts" | "requestVolume">;

function newEntry(): Entry {
  return { ejectedUntil: undefined, multiplier: 0, successes: 0, failures: 0, newSuccesses: 0, newFailures: 0 };
}

function volumeOf(entry: Entry): number {
  return entry.successes + entry.failures;
}

function successRateOf(entry: Entry): number {
  return entry.successes / volumeOf(entry);
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
