import type { Interceptor } from "@connectrpc/connect";
import { markPeerError } from "#shared/errors";
import { callNext } from "../policies/call-next.ts";

/** Marks whatever a call to the service fails with as that service's failure: see `peerOf`. */
export function markErrorsInterceptor(service: string): Interceptor {
  function fail(error: unknown): never {
    throw markPeerError(error, service);
  }

  return (next) => (req) => {
    const answer = callNext(next, req);
    const result = req.stream
      ? answer.then((res) => (res.stream ? { ...res, message: marked(res.message, service) } : res))
      : answer;
    return result.catch(fail);
  };
}

async function* marked<T>(items: AsyncIterable<T>, service: string): AsyncGenerator<T> {
  try {
    yield* items;
  } catch (error) {
    throw markPeerError(error, service);
  }
}
