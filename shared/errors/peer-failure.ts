import { Code, ConnectError } from "@connectrpc/connect";
import { DomainError, type ErrorCode } from "./domain-error.ts";

/** How the caller's own call ended: what it means does not change on the way through. */
const ownEndings: ReadonlySet<Code> = new Set([Code.Canceled, Code.DeadlineExceeded]);

/** What still says the right thing to a caller further out; anything else is this service's own fault. */
const kept = new Map<Code, ErrorCode>([
  [Code.ResourceExhausted, "resource_exhausted"],
  [Code.Unimplemented, "unimplemented"],
]);

const services = new WeakMap<Error, string>();

/**
 * Notes that an error is how a call to `service` failed, so that a handler that lets it through does not answer with a
 * peer's code, words and addresses as if they were its own. Answers the error.
 */
export function markPeerError(error: unknown, service: string): unknown {
  if (error instanceof ConnectError && !services.has(error)) services.set(error, service);
  return error;
}

/** The service whose call failed with this error; undefined when it comes from elsewhere. */
export function peerOf(error: unknown): string | undefined {
  return error instanceof Error ? services.get(error) : undefined;
}

/**
 * What a failed call to a peer means to this service's own caller, when the answer cannot do without the peer:
 * PEER_UNAVAILABLE when it cannot be reached, else PEER_FAILED, which is `internal` for all that the caller could not
 * understand, since it is about a call that the caller has not made. The peer's error is the cause, for the log.
 */
export function peerFailure(service: string, cause: unknown): unknown {
  if (!(cause instanceof ConnectError) || ownEndings.has(cause.code)) return cause;
  const metadata = { service };
  if (cause.code === Code.Unavailable) {
    return new DomainError("unavailable", "PEER_UNAVAILABLE", `${service} cannot be asked`, { metadata, cause });
  }
  return new DomainError(kept.get(cause.code) ?? "internal", "PEER_FAILED", `${service} failed`, { metadata, cause });
}

/** Causes are followed this far. */
const MAX_CAUSES = 8;

/** Whether an error says that a peer could not be reached: its call failed as `unavailable`, or that is its cause. */
export function isPeerUnavailable(error: unknown): boolean {
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES && current instanceof Error; depth++) {
    if (current instanceof ConnectError && services.has(current)) return current.code === Code.Unavailable;
    if (current instanceof DomainError && current.reason === "PEER_UNAVAILABLE") return true;
    current = current.cause;
  }
  return false;
}
