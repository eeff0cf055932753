import type { ConnectError } from "@connectrpc/connect";
import type { MethodPolicy } from "../../call/method-policy.ts";
import { notProcessedKind } from "../../call/not-processed-error.ts";
import type { RetryConfig } from "../../config/retry.ts";
import { readPushback } from "./pushback.ts";
import { createRetryBackoff } from "./retry-backoff.ts";
import type { RetryThrottle } from "./retry-throttle.ts";

/** What one call does about its failures. */
export interface RetryPlan {
  /**
   * Milliseconds until the next attempt; undefined when there is none. To be asked once for each attempt that has failed.
   *
   * @param isGivenUp it was this side that ended the attempt, since it took too long
   */
  delayAfter(failure: ConnectError, isGivenUp: boolean): number | undefined;
}

export interface RetryPlanOptions {
  readonly policy: Pick<MethodPolicy, "retry" | "unreachableRetry">;
  readonly config: RetryConfig;
  /** The call works for one that is a retry: its failures count, and are the end. */
  readonly isRetried: boolean;
  readonly throttle: RetryThrottle;
  readonly random: () => number;
}

/**
 * gRFC A6's rules. An attempt that the peer has not worked on may be repeated whatever the method does; one for which
 * there was not even a connection costs no token, since it has put no load on anybody.
 */
export function createRetryPlan({ policy, config, isRetried, throttle, random }: RetryPlanOptions): RetryPlan {
  const { retry } = policy;
  const max = isRetried ? 0 : config.max;
  const backoff = createRetryBackoff(config, random);
  let retries = 0;

  return {
    delayAfter(failure, isGivenUp) {
      const kind = notProcessedKind(failure);
      if (kind === "rejected") return undefined;
      const pushback = retry === undefined ? undefined : readPushback(failure.metadata);
      if (pushback === "never") {
        throttle.failed();
        return undefined;
      }
      const isRetryable = kind !== undefined || isGivenUp || retry?.codes.includes(failure.code) === true;
      if (!isRetryable) return undefined;
      if (kind === undefined || kind === "refused") throttle.failed();
      if (retries >= max || !throttle.allows()) return undefined;
      retries++;
      if (pushback === undefined) return backoff.nextDelayMs();
      backoff.reset();
      return pushback;
    },
  };
}
