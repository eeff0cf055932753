import { Code, ConnectError } from "@connectrpc/connect";

/**
 * How far a call got that its peer has not worked on:
 * - `unsent`: it never left this process;
 * - `refused`: the peer says that it did nothing about it (REFUSED_STREAM, or above the last stream id of a GOAWAY);
 * - `unreachable`: there was no connection to send it on;
 * - `rejected`: a policy here let it not go out (an open breaker).
 */
export type NotProcessedKind = "unsent" | "refused" | "unreachable" | "rejected";

/** Cause of a failure by which the peer has not worked on the call: it can be sent again, whatever it does. */
export class NotProcessedError extends Error {
  override readonly name = "NotProcessedError";
  readonly kind: NotProcessedKind;

  constructor(kind: NotProcessedKind, message: string, cause?: Error) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
  }
}

/** The UNAVAILABLE with which such a call fails. */
export function notProcessed(kind: NotProcessedKind, message: string, cause?: Error): ConnectError {
  return new ConnectError(message, Code.Unavailable, undefined, undefined, new NotProcessedError(kind, message, cause));
}

/** How far the call got; undefined when the peer may have worked on it. */
export function notProcessedKind(error: unknown): NotProcessedKind | undefined {
  return error instanceof ConnectError && error.cause instanceof NotProcessedError ? error.cause.kind : undefined;
}
