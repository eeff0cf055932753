import { type ContextKey, createContextKey } from "@connectrpc/connect";
import type { MethodPolicy } from "./method-policy.ts";

/** What the policies of one outgoing call share, over all of its attempts. */
export interface OutgoingCall {
  /** The policy in force when the call began: a reload does not change it on the way. */
  readonly policy: MethodPolicy;
  /** When it began, on the clock of `performance.now()`. */
  readonly startedAt?: number;
  /** When its answer is worthless, on the clock of `performance.now()`; undefined without a deadline. */
  readonly deadlineMs: number | undefined;
  /** Attempts that have been started, hedges among them; transparent ones do not count. */
  attempts: number;
  /** Why there were further attempts, for observers. */
  furtherAttempts?: ("retry" | "hedge" | "transparent")[];
  /** Bytes of bodies, over all attempts, for observers. */
  requestBytes?: number;
  responseBytes?: number;
  /** Addresses that attempts went to: the next goes elsewhere when it can. */
  readonly tried: Set<string>;
  /** Where the latest attempt went. */
  peer?: string;
  /** To be called when an endpoint has been picked for an attempt: its time begins. */
  onPick?: (() => void) | undefined;
  /** To be called when an attempt is sent again, since no peer has worked on it: its time has not begun. */
  onUnpick?: (() => void) | undefined;
}

/** Where the interceptors of the pool find the call that they work for. */
export const outgoingCallKey: ContextKey<OutgoingCall | undefined> = createContextKey<OutgoingCall | undefined>(
  undefined,
  { description: "outgoing call" },
);

/** Notes a further attempt of the call, for observers. */
export function noteFurtherAttempt(call: OutgoingCall, reason: "retry" | "hedge" | "transparent"): void {
  call.furtherAttempts ??= [];
  call.furtherAttempts.push(reason);
}

/** Counts bytes of bodies, for observers. */
export function countBytes(call: OutgoingCall | undefined, sent: number, received: number): void {
  if (call === undefined) return;
  call.requestBytes = (call.requestBytes ?? 0) + sent;
  call.responseBytes = (call.responseBytes ?? 0) + received;
}
