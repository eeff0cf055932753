/** How a promise ended. */
export type SettledOutcome<T = unknown> =
  | { readonly kind: "done"; readonly value: T }
  | { readonly kind: "failed"; readonly cause: unknown };

/** How a bounded wait ended. `overran` means that the work is still running. */
export type BoundedOutcome<T = unknown> = SettledOutcome<T> | { readonly kind: "overran" };

/**
 * Waits for a promise for at most `timeoutMs`, and not after the signal has fired. Never rejects: the caller handles all
 * three outcomes.
 */
export async function bounded<T>(
  work: Promise<T>,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<BoundedOutcome<T>> {
  const { promise: overran, resolve } = Promise.withResolvers<BoundedOutcome<T>>();
  const giveUp = () => resolve({ kind: "overran" });
  const timer = setTimeout(giveUp, timeoutMs);
  if (signal?.aborted) giveUp();
  signal?.addEventListener("abort", giveUp);
  try {
    return await Promise.race([settled(work), overran]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  }
}

/** Waits for a promise without rejecting. */
export function settled<T>(work: Promise<T>): Promise<SettledOutcome<T>> {
  return work.then(
    (value) => ({ kind: "done", value }),
    (cause: unknown) => ({ kind: "failed", cause }),
  );
}
