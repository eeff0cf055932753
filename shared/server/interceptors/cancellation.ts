import type { Interceptor, StreamResponse } from "@connectrpc/connect";

/**
 * Ends a call when its signal fires (the caller is gone, the deadline has passed, the server shuts down) even if the
 * handler does not look at the signal. What the handler still does is then lost on the caller.
 */
export const cancellationInterceptor: Interceptor = (next) => async (request) => {
  const response = await abortable(request.signal, next(request));
  if (!response.stream) return response;
  return { ...response, message: abortableItems(request.signal, response.message) } as StreamResponse;
};

/** The promise, or a rejection with the signal's reason if that fires first. */
async function abortable<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
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

async function* abortableItems<T>(signal: AbortSignal, items: AsyncIterable<T>): AsyncGenerator<T> {
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
