import { contextHeaders } from "#shared/call-context";
import { LONGEST_TIMEOUT_MS } from "../../call/longest-timeout.ts";

export interface FurtherAttempt {
  /** How many attempts there have been; 0 when this one repeats the first and does not count. */
  readonly previousAttempts: number;
  /** On the clock of `now`. */
  readonly deadlineMs: number | undefined;
  readonly now: number;
}

/**
 * The headers of a further attempt, made from those of the call: they say which attempt it is (gRFC A6), how much of the
 * call's time is left, and to whatever the peer calls in turn that it works for a retry.
 */
export function furtherHeaders(header: Headers, { previousAttempts, deadlineMs, now }: FurtherAttempt): Headers {
  const further = new Headers(header);
  if (previousAttempts > 0) {
    further.set(contextHeaders.previousAttempts, String(previousAttempts));
    further.set(contextHeaders.retryChain, "1");
  }
  if (deadlineMs !== undefined) setTimeLeft(further, deadlineMs - now);
  return further;
}

/** Writes anew how much time the call has, in whichever way its protocol says it. */
export function setTimeLeft(header: Headers, ms: number): void {
  const leftMs = Math.min(Math.max(1, Math.floor(ms)), LONGEST_TIMEOUT_MS);
  if (header.has("grpc-timeout")) header.set("grpc-timeout", `${leftMs}m`);
  if (header.has("connect-timeout-ms")) header.set("connect-timeout-ms", String(leftMs));
}
