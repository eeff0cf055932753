import { ConnectError, type Interceptor, type StreamResponse } from "@connectrpc/connect";
import { DomainError, peerOf, toConnectError } from "#shared/errors";
import type { Logger } from "#shared/logging";
import { callNext, watchItems } from "#shared/rpc";

/** @param signal of the call */
export type MapError = (error: unknown, signal: AbortSignal) => ConnectError;

/**
 * Maps what a handler throws to what the wire shall have: a DomainError with its code and details, a ConnectError as it is, a
 * peer's failure that it let through as this service's own, anything else as `internal` without a word more. Logs it with its
 * cause, since no layer after this sees it.
 *
 * @param domain what gives error reasons their meaning: the service's name
 */
export function createErrorMapping(logger: Logger, domain: string): MapError {
  return (error, signal) => {
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
  };
}

export function errorMappingInterceptor(mapError: MapError): Interceptor {
  return (next) => (request) => {
    const fail = (error: unknown): never => {
      throw mapError(error, request.signal);
    };
    const response = callNext(next, request);
    if (!request.stream) return response.catch(fail);
    return response.then((streamed) => {
      if (!streamed.stream) return streamed;
      const message = watchItems(streamed.message, { onError: (error) => mapError(error, request.signal) });
      return { ...streamed, message } as StreamResponse;
    }, fail);
  };
}
