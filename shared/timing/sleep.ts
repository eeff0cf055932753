import { setTimeout as delay } from "node:timers/promises";

export interface SleepOptions {
  /** Whether the sleep keeps the process alive. Default true; false is for work in the background. */
  readonly keepsAlive?: boolean;
}

/** Waits for `ms`. Never rejects: resolves to false as soon as the signal fires, to true when the time is over. */
export async function sleep(
  ms: number,
  signal?: AbortSignal,
  { keepsAlive = true }: SleepOptions = {},
): Promise<boolean> {
  if (signal?.aborted) return false;
  try {
    await delay(ms, undefined, signal === undefined ? { ref: keepsAlive } : { signal, ref: keepsAlive });
    return true;
  } catch {
    return false;
  }
}
