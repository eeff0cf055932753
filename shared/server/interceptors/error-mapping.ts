import { ConnectError, type Interceptor, type StreamResponse } from "@connectrpc/connect";
import { DomainError, peerOf, toConnectError } from "#shared/errors";
import type { Logger } from "#shared/logging";
import { callNext, watchItems } from "#shared/rpc";

/**
 * What a handler throws, as the wire shall have it: a DomainError with its code and details, a ConnectError as it is,
 * a peer's failure that it let through as this service's own, anything else as `internal` without a word more. Logged
 * here with its cause, since nothing after this sees it.
 *
 * @param domain what gives error reasons their meaning: the service's name
 */
export function errorMappingInterceptor(logger: Logger, domain: string): Interceptor {
  function mapped(error: unknown, signal: AbortSignal): ConnectError {
    // Work that was told to stop fails in ways of its own; the reason that it was told is what happened to the call.
    if (signal.aborted && !(error instanceof DomainError) && !(error instanceof ConnectError)) {
      if (error !== signal.reason) logger.debug({ err: error }, "handler failed after its call had ended");
      return ConnectError.from(signal.reason);
    }
    if (!(error instanceof DomainError) && !(error instanceof ConnectError)) {
      logger.error({ err: error }, "handler failed");
    } else if (peerOf(error) !== undefined || (error.cause !== undefined && !(error.cause instanceof DomainError))) {
      logger.warn({ err: error }, "call refused");
    }
    return toConnectError(error, domain);
  }

  return (next) => (request) => {
    const fail = (error: unknown): never => {
      throw mapped(error, request.signal);
    };
    const answer = callNext(next, request);
    if (!request.stream) return answer.catch(fail);
    return answer.then((response) => {
      if (!response.stream) return response;
      const message = watchItems(response.message, { onError: (error) => mapped(error, request.signal) });
      return { ...response, message } as StreamResponse;
    }, fail);
  };
}
