import { setTimeout as delay } from "node:timers/promises";

const DEFAULT_TIMEOUT_MS = 60_000;

/** Polls a condition every 5 ms until it is true. @throws Error after `timeoutMs` (default 60,000) */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  timeoutMs = DEFAULT_TIMEOUT_MS,
): Promise<void> {
  const giveUpAt = performance.now() + timeoutMs;
  while (!(await isSo())) {
    if (performance.now() > giveUpAt) throw new Error(`waited ${timeoutMs} ms in vain for ${what}`);
    await delay(5);
  }
}

/** Waits for a promise for at most `timeoutMs` (default 60,000). @throws Error after that */
export async function within<T>(work: Promise<T>, what = "a promise", timeoutMs = DEFAULT_TIMEOUT_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${timeoutMs} ms in vain for ${what}`)), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
