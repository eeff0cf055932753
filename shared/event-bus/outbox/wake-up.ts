/** Sleeps until somebody says that there is something to do. A nudge to nobody is kept for whoever sleeps next. */
export interface WakeUp {
  /** Ends one sleep. */
  nudge(): void;
  /** Resolves after `ms`, if that is said, at a nudge or at the end; never rejects. */
  wait(ms?: number): Promise<void>;
}

export function createWakeUp(ending: AbortSignal): WakeUp {
  const sleepers = new Set<() => void>();
  let nudged = false;

  ending.addEventListener("abort", () => {
    for (const wake of [...sleepers]) wake();
  });

  return {
    nudge() {
      const [wake] = sleepers;
      if (wake === undefined) nudged = true;
      else wake();
    },
    async wait(ms) {
      if (nudged || ending.aborted) {
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
