import { Code, ConnectError } from "@connectrpc/connect";
import { DomainError } from "./domain-error.ts";

/** How the caller's own call ended: what it means does not change on the way through. */
const ownEndings: ReadonlySet<Code> = new Set([Code.Canceled, Code.DeadlineExceeded]);

/**
 * What a failed call to a peer means to this service's own caller, when the answer cannot do without the peer:
 * UNAVAILABLE, PEER_UNAVAILABLE, with the peer's error as cause for the log, since its code and words are about a call
 * that the caller has not made.
 */
export function peerUnavailable(service: string, cause: unknown): unknown {
  if (cause instanceof ConnectError && ownEndings.has(cause.code)) return cause;
  return new DomainError("unavailable", "PEER_UNAVAILABLE", `${service} cannot be asked`, {
    metadata: { service },
    cause,
  });
}
