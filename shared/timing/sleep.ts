export interface SleepOptions {
  /** Whether the sleep keeps the process alive. Default true; false is for work in the background. */
  readonly keepsAlive?: boolean;
}

/** Waits for `ms`. Never rejects: resolves to false as soon as the signal fires, to true when the time is over. */
export function sleep(ms: number, signal?: AbortSignal, { keepsAlive = true }: SleepOptions = {}): Promise<boolean> {
  if (signal?.aborted) return Promise.resolve(false);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const end = (isOver: boolean) => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
    resolve(isOver);
  };
  const onAbort = () => end(false);
  // The global function, which node:test can replace by a fake clock.
  const timer = setTimeout(end, ms, true);
  if (!keepsAlive) timer.unref();
  signal?.addEventListener("abort", onAbort);
  return promise;
}
