import type { Interceptor } from "@connectrpc/connect";
import { markPeerError } from "#shared/errors";

/** Marks whatever a call to the service fails with as that service's failure: see `peerOf`. */
export function markErrorsInterceptor(service: string): Interceptor {
  return (next) => async (req) => {
    try {
      const res = await next(req);
      return res.stream ? { ...res, message: marked(res.message, service) } : res;
    } catch (error) {
      throw markPeerError(error, service);
    }
  };
}

async function* marked<T>(items: AsyncIterable<T>, service: string): AsyncGenerator<T> {
  try {
    yield* items;
  } catch (error) {
    throw markPeerError(error, service);
  }
}
