import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { watchItems } from "#shared/rpc";
import type { Admission } from "../shedding/admission.ts";
import { isPlatformService } from "./platform-services.ts";

/**
 * Refuses calls that are too much, before anything is done for them. A call counts for as long as its handler works,
 * also when its caller has left in the meantime. Health and reflection always pass: an overloaded server is not a dead
 * one, and to be restarted is the last thing that it needs.
 */
export function sheddingInterceptor(admission: Admission): Interceptor {
  return (next) => async (request) => {
    if (isPlatformService(request.service.typeName)) return next(request);
    const leave = admission.enter();
    try {
      const response = await next(request);
      if (response.stream) {
        return { ...response, message: counted(response.message, request.signal, leave) } as StreamResponse;
      }
      leave();
      return response;
    } catch (error) {
      leave();
      throw error;
    }
  };
}

/** @param signal fires when the call ends, however it does */
function counted<T>(items: AsyncIterable<T>, signal: AbortSignal, leave: () => void): AsyncIterable<T> {
  let isStarted = false;
  // What the caller left before its first item is never asked for one.
  const onAbort = () => {
    if (!isStarted) leave();
  };
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort);

  function onEnd(): void {
    signal.removeEventListener("abort", onAbort);
    leave();
  }

  return watchItems(items, {
    around(step) {
      isStarted = true;
      return step();
    },
    onEnd,
    onError(reason) {
      onEnd();
      return reason;
    },
    onReturn: onEnd,
  });
}
