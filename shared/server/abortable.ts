/** The promise, or a rejection with the signal's reason if that fires first. */
export async function abortable<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort);
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** The items, until the signal fires: then a rejection with its reason, even in the middle of a step. */
export async function* abortableItems<T>(signal: AbortSignal, items: AsyncIterable<T>): AsyncGenerator<T> {
  const iterator = items[Symbol.asyncIterator]();
  let isOpen = true;
  try {
    for (;;) {
      const result = await abortable(signal, iterator.next());
      if (result.done === true) {
        isOpen = false;
        return;
      }
      yield result.value;
    }
  } catch (error) {
    // A source that failed has closed itself. One that was left behind in the middle of a step closes when the step
    // ends, and nobody is left to hear how.
    isOpen = false;
    if (signal.aborted) iterator.return?.().catch(() => {});
    throw error;
  } finally {
    if (isOpen) await iterator.return?.();
  }
}
