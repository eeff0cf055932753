import { LONGEST_TIMEOUT_MS } from "./longest-timeout.ts";

/** What an incoming call keeps for itself of the time that it has left: this share, within these bounds … */
const RESERVE_SHARE = 0.1;
const LEAST_RESERVE_MS = 20;
const MOST_RESERVE_MS = 50;
/** … and never more than this share. */
const MOST_RESERVE_SHARE = 0.5;

export interface Timeouts {
  /** What the caller gave with the call. 0 or less: none, not even the service's (as Connect has it). */
  readonly explicitMs: number | undefined;
  /** The configuration's, for calls without an explicit one. */
  readonly defaultMs: number | undefined;
  /** What the incoming call has left; Infinity without a deadline. */
  readonly remainingMs: number;
}

/**
 * How long an outgoing call may take, in whole milliseconds: its own timeout, explicit or by default, but never beyond
 * what the incoming call has left. 0: there is no time left, do not send it. Undefined: for ever.
 *
 * Of an inherited deadline a little is kept back (10 %, but 20 to 50 ms, and half of it at the most): whoever calls must
 * learn of the failure while it can still answer its own caller with a fallback or an error of its own, and that answer
 * has to travel.
 */
export function outgoingTimeoutMs({ explicitMs, defaultMs, remainingMs }: Timeouts): number | undefined {
  const ownMs = explicitMs === undefined ? defaultMs : explicitMs > 0 ? explicitMs : undefined;
  const inheritedMs = remainingMs - reserveMs(remainingMs);
  const timeoutMs = Math.min(ownMs ?? Number.POSITIVE_INFINITY, inheritedMs);
  // Own timeouts round up, so that none becomes 0; inherited ones down, so that none goes beyond its deadline.
  if (timeoutMs === Number.POSITIVE_INFINITY) return undefined;
  const wholeMs = timeoutMs === ownMs ? Math.ceil(timeoutMs) : Math.floor(timeoutMs);
  return Math.min(wholeMs, LONGEST_TIMEOUT_MS);
}

function reserveMs(remainingMs: number): number {
  if (remainingMs === Number.POSITIVE_INFINITY) return 0;
  const wanted = Math.min(Math.max(remainingMs * RESERVE_SHARE, LEAST_RESERVE_MS), MOST_RESERVE_MS);
  return Math.min(wanted, remainingMs * MOST_RESERVE_SHARE);
}
