import type { Interceptor } from "@connectrpc/connect";
import { markPeerError } from "#shared/errors";
import { callNext, watchItems } from "#shared/rpc";

/** Marks whatever a call to the service fails with as that service's failure: see `peerOf`. */
export function markErrorsInterceptor(service: string): Interceptor {
  const mark = (error: unknown) => markPeerError(error, service);

  function fail(error: unknown): never {
    throw mark(error);
  }

  return (next) => (req) => {
    const answer = callNext(next, req);
    const result = req.stream
      ? answer.then((res) => (res.stream ? { ...res, message: watchItems(res.message, { onError: mark }) } : res))
      : answer;
    return result.catch(fail);
  };
}
