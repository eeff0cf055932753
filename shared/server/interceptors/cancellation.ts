import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { callNext } from "#shared/rpc";
import { abortable, abortableItems } from "./abortable.ts";
import { type CallInfo, callInfoKey } from "./call-info.ts";

/**
 * Ends a call when its signal fires (the caller is gone, the deadline has passed, the server shuts down) even if the
 * handler does not look at the signal. What the handler still does is then lost on the caller.
 */
export const cancellationInterceptor: Interceptor = (next) => (request) => {
  const info = request.contextValues.get(callInfoKey);
  const response = callNext(next, request);
  if (!request.stream && info?.handlerContext?.signal === request.signal) return abortableUnary(info, response);
  return abortable(request.signal, response).then((streamed) => {
    if (!streamed.stream) return streamed;
    return { ...streamed, message: abortableItems(request.signal, streamed.message) } as StreamResponse;
  });
};

/** As `abortable` does, without a listener that would come and go with each call. */
function abortableUnary<T>(info: CallInfo, promise: Promise<T>): Promise<T> {
  const signal = info.handlerContext?.signal;
  return new Promise((resolve, reject) => {
    promise.then(resolve, reject);
    if (signal?.aborted) reject(signal.reason);
    else info.onAbort = reject;
  });
}
