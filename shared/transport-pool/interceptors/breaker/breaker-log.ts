import type { Logger } from "#shared/logging";
import type { BreakerState } from "./breaker.ts";

/** Tells the log when a method of the service is not called any more, and when it can be called again. */
export function logBreaker(logger: Pick<Logger, "debug" | "info" | "warn">, service: string) {
  return (method: string, { state, calls, failures, retryAtMs = 0 }: BreakerState): void => {
    const about = { peer_service: service, method };
    if (state === "open") {
      const retryInMs = Math.round(retryAtMs - performance.now());
      logger.warn(
        { ...about, calls, failures, retry_in_ms: retryInMs },
        `${method} of ${service} is not called for now`,
      );
    } else if (state === "half_open") logger.debug(about, `one call tries ${method} of ${service}`);
    else logger.info(about, `${method} of ${service} is called again`);
  };
}
