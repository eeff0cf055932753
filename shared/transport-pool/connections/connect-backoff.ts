import type { ConnectBackoffConfig } from "../config/service.ts";

/** The delays between attempts to connect to one peer. */
export interface ConnectBackoff {
  /** Milliseconds from the start of the attempt that failed to the start of the next one. */
  nextDelayMs(): number;
  /** After a success: the next failure begins with the initial delay again. */
  reset(): void;
}

/**
 * gRPC's connection backoff (connection-backoff.md): initial, then times `multiplier` up to `max`, each ± `jitter`.
 *
 * @param random gives numbers from 0 up to 1, as Math.random does
 */
export function createConnectBackoff(config: ConnectBackoffConfig, random: () => number): ConnectBackoff {
  const { initialMs, multiplier, jitter, maxMs } = config;
  let baseMs = Math.min(initialMs, maxMs);
  return {
    nextDelayMs() {
      const delayMs = baseMs * (1 + jitter * (2 * random() - 1));
      baseMs = Math.min(baseMs * multiplier, maxMs);
      return delayMs;
    },
    reset() {
      baseMs = Math.min(initialMs, maxMs);
    },
  };
}
