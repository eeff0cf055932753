import { AsyncLocalStorage } from "node:async_hooks";
import type { Interceptor } from "@connectrpc/connect";

const storage = new AsyncLocalStorage<AbortSignal>();

/**
 * Hands the call's signal to the session manager, whose interface has no room for it: a call that has ended must
 * neither open a stream nor wait for a connection. Has to be the innermost interceptor.
 */
export const callSignalInterceptor: Interceptor = (next) => async (req) => {
  req.signal.throwIfAborted();
  return storage.run(req.signal, () => next(req));
};

/** The signal of the call that the running code sends; undefined outside of one. */
export function currentCallSignal(): AbortSignal | undefined {
  return storage.getStore();
}
