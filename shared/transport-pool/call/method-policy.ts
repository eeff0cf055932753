import type { BreakerConfig } from "../config/breaker.ts";
import type { HedgeConfig } from "../config/hedge.ts";
import type { RetryConfig } from "../config/retry.ts";

/** What is in force for the calls of one method: its own configuration over its service's. */
export interface MethodPolicy {
  /** For unary calls that do not bring their own timeout. */
  readonly timeoutMs: number;
  /** Whether a call waits for a connection while its service is down, instead of failing at once. */
  readonly waitForReady: boolean;
  /** Only when the method may be sent twice. Never with `hedge`. */
  readonly retry?: RetryConfig;
  /**
   * For methods that must not be sent twice: how an attempt that its peer has not worked on is made again. Nothing else
   * is. Not looked at beside `retry`.
   */
  readonly unreachableRetry?: RetryConfig;
  /** Only when the method has no side effects. Never with `retry`. */
  readonly hedge?: HedgeConfig;
  readonly breaker?: BreakerConfig;
}
