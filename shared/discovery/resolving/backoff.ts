/** How long to leave a registry alone that has failed. */
export interface Backoff {
  /** Milliseconds until the next try: more from one failure to the next. */
  next(): number;
  reset(): void;
}

const INITIAL_MS = 500;
const MULTIPLIER = 1.6;

/** Half of each delay to one and a half, so that the clients of a registry do not all come back at once. */
export function createBackoff(random: () => number, maxMs = 30_000): Backoff {
  let delayMs = Math.min(INITIAL_MS, maxMs);
  return {
    next() {
      const jittered = delayMs * (0.5 + random());
      delayMs = Math.min(delayMs * MULTIPLIER, maxMs);
      return jittered;
    },
    reset() {
      delayMs = Math.min(INITIAL_MS, maxMs);
    },
  };
}
