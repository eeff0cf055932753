import { AsyncLocalStorage } from "node:async_hooks";
import type { Logger } from "#shared/logging";
import type { OutlierConfig } from "../../config/outlier.ts";
import { createOutlierEjection, type OutlierEjection } from "./outlier-ejection.ts";

/** Outlier ejection that is carried out: judged each interval, told in the log. */
export interface OutlierSweep extends Pick<OutlierEjection, "record" | "isEjected" | "states"> {
  /** The addresses that there are from now on. */
  watch(addresses: readonly string[]): void;
  stop(): void;
}

export interface OutlierSweepOptions {
  readonly config: OutlierConfig;
  readonly random: () => number;
  readonly logger: Pick<Logger, "info" | "warn">;
  /** The service's name. */
  readonly service: string;
  /** Some were ejected or have returned. */
  readonly onChange: () => void;
}

export function createOutlierSweep(options: OutlierSweepOptions): OutlierSweep {
  const { config, random, logger, service, onChange } = options;
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const { record, isEjected, states, sweep } = createOutlierEjection({ config, random });
  let addresses: readonly string[] = [];
  let timer: NodeJS.Timeout | undefined;

  function judge(): void {
    const { ejected, returned } = sweep(performance.now(), addresses);
    for (const peer of ejected) {
      const { successes, failures } = states().get(peer) ?? {};
      logger.warn({ peer_service: service, peer, successes, failures }, `${service} at ${peer} is ejected`);
    }
    for (const peer of returned) logger.info({ peer_service: service, peer }, `${service} at ${peer} is used again`);
    if (ejected.length > 0 || returned.length > 0) onChange();
  }

  return {
    record(address, ok) {
      // One that is alone is never judged, and nobody would ever forget it.
      if (addresses.length > 1) record(address, ok);
    },
    isEjected,
    states,
    watch(next) {
      addresses = next;
      // There must be others to be compared with.
      if (next.length > 1) timer ??= outsideOfCalls(() => setInterval(judge, config.intervalMs).unref());
    },
    stop: () => clearInterval(timer),
  };
}
