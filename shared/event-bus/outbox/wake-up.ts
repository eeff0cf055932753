/** Lets loops sleep until there is something to do. A nudge while none sleeps is kept for the next one that wants to. */
export interface WakeUp {
  /** Ends one sleep. */
  nudge(): void;
  /** Resolves after `ms` (default: never), at a nudge, or when the signal fires; never rejects. */
  wait(ms?: number): Promise<void>;
}

/** @param signal ends every sleep */
export function createWakeUp(signal: AbortSignal): WakeUp {
  const sleepers = new Set<() => void>();
  let nudged = false;

  signal.addEventListener("abort", () => {
    for (const wake of [...sleepers]) wake();
  });

  return {
    nudge() {
      const [wake] = sleepers;
      if (wake === undefined) nudged = true;
      else wake();
    },
    async wait(ms) {
      if (nudged || signal.aborted) {
        nudged = false;
        return;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = ms === undefined ? undefined : setTimeout(wake, ms);
      function wake(): void {
        clearTimeout(timer);
        sleepers.delete(wake);
        resolve();
      }
      sleepers.add(wake);
      await promise;
    },
  };
}
