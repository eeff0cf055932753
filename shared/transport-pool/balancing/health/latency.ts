/** How long a peer's answers take, of late. */
export interface Latency {
  /**
   * @param ms from the request to the answer
   * @param isFault whether the peer failed: it then counts as slower than it was
   * @param now the clock of `performance.now()`
   */
  record(ms: number, isFault: boolean, now: number): void;
  /** Milliseconds, never below 0.1; undefined when nothing is known: no answer yet, or none in the last minute. */
  value(now: number): number | undefined;
  /** What was known says nothing any more. */
  forget(): void;
}

/**
 * After this long an old average has 37 % of the say. Finagle's is 10 s. One slow answer is believed at once, and a peer
 * that is a hundred times slower than others is passed over for almost five of these: ten seconds, not fifty.
 */
const TAU_MS = 2_000;
const FORGET_AFTER_MS = 60_000;

/** Below it differences are noise, and a peer that was idle for long must not look so quick that all calls go there. */
const LEAST_MS = 0.1;

/** A failure counts as this many times the average … */
const FAULT_FACTOR = 5;
/** … but no more than this, or a peer that failed often would be left alone for too long. */
const MOST_FAULT_MS = 10_000;
/** When there is no average. */
const FIRST_FAULT_MS = 1_000;

/**
 * A moving average that forgets by time, not by count, and is sensitive to peaks, as in Finagle's peak EWMA: a slower
 * answer is believed at once, a quicker one bit by bit. It also fades when it is read, so that a peer that was slow looks
 * quick enough to be tried again after a while.
 *
 * A failure counts as five times the average if it was quicker than that: a peer that fails fast must not attract calls.
 */
export function createLatency(): Latency {
  let averageMs = 0;
  let recordedAt: number | undefined;

  function value(now: number): number | undefined {
    if (recordedAt === undefined) return undefined;
    const ageMs = now - recordedAt;
    if (ageMs >= FORGET_AFTER_MS) return undefined;
    return Math.max(averageMs * remains(ageMs), LEAST_MS);
  }

  return {
    record(ms, isFault, now) {
      const sampleMs = isFault ? Math.max(ms, faultMs(value(now))) : ms;
      if (recordedAt === undefined || sampleMs >= averageMs) {
        averageMs = sampleMs;
      } else {
        const old = remains(now - recordedAt);
        averageMs = averageMs * old + sampleMs * (1 - old);
      }
      recordedAt = now;
    },
    value,
    forget() {
      recordedAt = undefined;
    },
  };
}

function faultMs(averageMs: number | undefined): number {
  return averageMs === undefined ? FIRST_FAULT_MS : Math.min(averageMs * FAULT_FACTOR, MOST_FAULT_MS);
}

/** The share that is left of an average of this age. */
function remains(ageMs: number): number {
  return ageMs <= 0 ? 1 : Math.exp(-ageMs / TAU_MS);
}
