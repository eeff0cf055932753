/** How a bounded piece of work ended. `overran` means that it is still going on. */
export type Outcome =
  | { readonly kind: "done" }
  | { readonly kind: "failed"; readonly cause: unknown }
  | { readonly kind: "overran" };

/**
 * Waits for a promise, but no longer than `timeoutMs` and not once the signal has fired. Never rejects: whoever bounds
 * a wait has to deal with all three endings.
 */
export async function bounded(work: Promise<unknown>, timeoutMs: number, signal?: AbortSignal): Promise<Outcome> {
  const { promise: overran, resolve } = Promise.withResolvers<Outcome>();
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
export function settled(work: Promise<unknown>): Promise<Outcome> {
  return work.then(
    () => ({ kind: "done" }),
    (cause: unknown) => ({ kind: "failed", cause }),
  );
}

/** Calls at once; a synchronous throw becomes a rejection. */
export async function invoke(step: () => Promise<void> | void): Promise<void> {
  await step();
}
