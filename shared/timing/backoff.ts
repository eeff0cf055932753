export interface BackoffOptions {
  /** Delay after the first failure, before jitter. */
  readonly initialMs: number;
  /** Upper bound of the delay, before jitter. */
  readonly maxMs: number;
  /** Factor from one delay to the next. Default 2. */
  readonly multiplier?: number;
  /** Each delay is multiplied by a random factor between `1 - jitter` and `1 + jitter`. Default 0.2. */
  readonly jitter?: number;
  /** Returns numbers from 0 up to 1. Default `Math.random`. */
  readonly random?: () => number;
}

/** Exponential backoff with jitter, so that clients which failed together do not come back together. */
export interface Backoff {
  /** Returns the milliseconds to wait before the next attempt. */
  next(): number;
  /** After a success: the next failure waits for `initialMs` again. */
  reset(): void;
  /** Failures since the last success. */
  readonly failures: number;
}

export function createBackoff(options: BackoffOptions): Backoff {
  const { initialMs, maxMs, multiplier = 2, jitter = 0.2, random = Math.random } = options;
  let delayMs = Math.min(initialMs, maxMs);
  let failures = 0;
  return {
    next() {
      failures++;
      const jittered = delayMs * (1 + jitter * (2 * random() - 1));
      delayMs = Math.min(delayMs * multiplier, maxMs);
      return jittered;
    },
    reset() {
      failures = 0;
      delayMs = Math.min(initialMs, maxMs);
    },
    get failures() {
      return failures;
    },
  };
}
