import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { callNext } from "#shared/rpc";
import { abortable, abortableItems } from "../abortable.ts";
import { callInfoKey, type UnaryInfo } from "../call-info.ts";

/**
 * Ends a call when its signal fires (the caller is gone, the deadline has passed, the server shuts down) even if the
 * handler does not look at the signal. What the handler still does is then lost on the caller.
 */
export const cancellationInterceptor: Interceptor = (next) => (request) => {
  const unary = request.contextValues.get(callInfoKey)?.unary;
  const answer = callNext(next, request);
  if (unary !== undefined && unary.context.signal === request.signal) return abortableUnary(unary, answer);
  return abortable(request.signal, answer).then((response) => {
    if (!response.stream) return response;
    return { ...response, message: abortableItems(request.signal, response.message) } as StreamResponse;
  });
};

/** As `abortable` does, without a listener that would come and go with each call. */
function abortableUnary<T>(unary: UnaryInfo, promise: Promise<T>): Promise<T> {
  const { signal } = unary.context;
  return new Promise((resolve, reject) => {
    promise.then(resolve, reject);
    if (signal.aborted) reject(signal.reason);
    else unary.onAbort = reject;
  });
}
