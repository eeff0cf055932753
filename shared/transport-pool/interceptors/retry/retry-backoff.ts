import type { RetryConfig } from "../../config/retry.ts";

/** The delays between the attempts of one call. */
export interface RetryBackoff {
  nextDelayMs(): number;
  /** The next delay is the initial one again. */
  reset(): void;
}

const LOWEST_JITTER = 0.8;
const HIGHEST_JITTER = 1.2;

/**
 * gRFC A6: before the nth retry, min(backoff · multiplier^(n-1), max_backoff), times 0.8 to 1.2.
 *
 * @param random gives numbers from 0 up to 1, as Math.random does
 */
export function createRetryBackoff(
  { backoffMs, multiplier, maxBackoffMs }: Pick<RetryConfig, "backoffMs" | "multiplier" | "maxBackoffMs">,
  random: () => number,
): RetryBackoff {
  let baseMs = backoffMs;
  return {
    nextDelayMs() {
      const delayMs = Math.min(baseMs, maxBackoffMs) * (LOWEST_JITTER + (HIGHEST_JITTER - LOWEST_JITTER) * random());
      baseMs = Math.min(baseMs * multiplier, maxBackoffMs);
      return delayMs;
    },
    reset() {
      baseMs = backoffMs;
    },
  };
}
