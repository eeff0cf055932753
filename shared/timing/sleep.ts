import { setTimeout as delay } from "node:timers/promises";

/** Waits for `ms`. Never rejects: resolves to false as soon as the signal fires, to true when the time is over. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<boolean> {
  if (signal?.aborted) return false;
  try {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
    return true;
  } catch {
    return false;
  }
}
