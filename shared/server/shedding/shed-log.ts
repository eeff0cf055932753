import type { Logger } from "#shared/logging";

/** Says how many calls were refused: the first at once, the rest as a number every ten seconds. */
export interface ShedLog {
  add(reason: string): void;
  /** Says what is not said yet, and holds no timer any more. */
  stop(): void;
}

const INTERVAL_MS = 10_000;

export function createShedLog(logger: Pick<Logger, "warn">): ShedLog {
  /** By reason, of which there are few. */
  const counts = new Map<string, number>();
  let timer: NodeJS.Timeout | undefined;

  function tell(): void {
    timer = undefined;
    if (counts.size === 0) return;
    logger.warn({ shed: Object.fromEntries(counts) }, "refusing calls: there is too much to do");
    counts.clear();
    timer = setTimeout(tell, INTERVAL_MS).unref();
  }

  return {
    add(reason) {
      counts.set(reason, (counts.get(reason) ?? 0) + 1);
      if (timer === undefined) tell();
    },
    stop() {
      clearTimeout(timer);
      tell();
      clearTimeout(timer);
      timer = undefined;
    },
  };
}
