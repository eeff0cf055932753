import type { Interceptor } from "@connectrpc/connect";
import { markPeerError } from "#shared/errors";
import { watchItems } from "#shared/streams";

/** Marks whatever a call to the service fails with as that service's failure: see `peerOf`. */
export function markErrorsInterceptor(service: string): Interceptor {
  return (next) => async (req) => {
    try {
      const res = await next(req);
      if (!res.stream) return res;
      return { ...res, message: watchItems(res.message, { onError: (reason) => markPeerError(reason, service) }) };
    } catch (error) {
      throw markPeerError(error, service);
    }
  };
}
