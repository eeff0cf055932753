import type { ThrottleConfig } from "../../config/retry.ts";

/** Bounds the retries of all calls to one service by how well these go (gRFC A6, "Throttling Retry Attempts"). */
export interface RetryThrottle {
  /** Whether a retry or a hedge may be sent now. A first attempt always may. */
  allows(): boolean;
  /** After a retryable failure, or a pushback that forbids to retry. */
  failed(): void;
  succeeded(): void;
  /** How full the bucket is. */
  tokens(): number;
}

/** Tokens are counted in thousandths, so that no rounding adds up. */
const UNIT = 1_000;

/** The bucket is full at first. */
export function createRetryThrottle({ maxTokens, tokenRatio }: ThrottleConfig): RetryThrottle {
  const max = Math.round(maxTokens * UNIT);
  const gain = Math.round(tokenRatio * UNIT);
  let tokens = max;
  return {
    allows: () => tokens > max / 2,
    failed() {
      tokens = Math.max(0, tokens - UNIT);
    },
    succeeded() {
      tokens = Math.min(max, tokens + gain);
    },
    tokens: () => tokens / UNIT,
  };
}
