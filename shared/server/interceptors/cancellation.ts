import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { abortable, abortableItems } from "../abortable.ts";

/**
 * Ends a call when its signal fires (the caller is gone, the deadline has passed, the server shuts down) even if the
 * handler does not look at the signal. What the handler still does is then lost on the caller.
 */
export const cancellationInterceptor: Interceptor = (next) => async (request) => {
  const response = await abortable(request.signal, next(request));
  if (!response.stream) return response;
  return { ...response, message: abortableItems(request.signal, response.message) } as StreamResponse;
};
