import { isPeerUnavailable } from "#shared/errors";
import { RejectedEventError } from "../errors.ts";
import type { AttemptResult, Received } from "./handling.ts";

/** Why a message became a dead letter. */
export type DeadLetterReason =
  | "undecodable"
  | "rejected"
  | "attempts_exhausted"
  | "unknown_type"
  /** Its handler ended the process each time. */
  | "delivery_limit";

/** What the bus does with a message after an attempt. Decided once, here. */
export type Disposition =
  | { readonly kind: "acknowledge"; readonly as: "handled" | "duplicate" }
  /** Acknowledged, unless another version of the service has a handler for the type. */
  | { readonly kind: "ignore"; readonly type: string }
  /** Put aside for `delayMs`, and then delivered again. */
  | {
      readonly kind: "retry";
      readonly delayMs: number;
      readonly attempt: number;
      readonly postponed: number;
      readonly unknownRounds: number;
      readonly costsAttempt: boolean;
      readonly error: unknown;
    }
  | { readonly kind: "dead-letter"; readonly reason: DeadLetterReason; readonly error: unknown }
  /** An outage of what the consumer needs: the message stays unanswered. */
  | { readonly kind: "give-back"; readonly error: unknown };

export interface DispositionOptions {
  /** Before the second, third … attempt. Empty: a message is tried once. */
  readonly delaysMs: readonly number[];
  /** How long the outage of a peer costs a message no attempt. */
  readonly peerOutageMs: number;
  readonly ignoreUnknown: boolean;
  /** Routing keys of the handled events. A message with one of them was meant for a handler, and is never ignored. */
  readonly handledRoutingKeys: ReadonlySet<string>;
}

export type Decide = (received: Received, result: AttemptResult) => Disposition;

export function createDecide(options: DispositionOptions): Decide {
  const { delaysMs, peerOutageMs, ignoreUnknown, handledRoutingKeys } = options;

  /** The delay of the nth postponement: the last one again and again. */
  const delayOf = (n: number): number => delaysMs[Math.min(n, delaysMs.length - 1)] ?? 0;

  /** Whether the time that a peer's outage may take has room for one more postponement. */
  function mayWait(postponed: number): boolean {
    if (delaysMs.length === 0) return false;
    const repeats = Math.max(0, postponed + 1 - delaysMs.length);
    const waitedMs = sum(delaysMs.slice(0, postponed + 1)) + repeats * delayOf(postponed);
    return waitedMs <= peerOutageMs;
  }

  function failed({ attempt, postponed, unknownRounds }: Received, error: unknown): Disposition {
    if (error instanceof RejectedEventError) return { kind: "dead-letter", reason: "rejected", error };
    const retry = { kind: "retry", attempt, postponed, unknownRounds, error } as const;
    if (isPeerUnavailable(error) && mayWait(postponed)) {
      return { ...retry, delayMs: delayOf(postponed), postponed: postponed + 1, costsAttempt: false };
    }
    const delayMs = delaysMs[attempt - 1];
    if (delayMs === undefined) return { kind: "dead-letter", reason: "attempts_exhausted", error };
    return { ...retry, delayMs, attempt: attempt + 1, costsAttempt: true };
  }

  /**
   * In a rolling deployment the other version may know the type: the message goes round once for each delay. What has gone
   * round because another version has a handler is not ignored.
   */
  function unknown({ attempt, postponed, unknownRounds, envelope }: Received, type: string): Disposition {
    const ignorable = ignoreUnknown && unknownRounds === 0 && !handledRoutingKeys.has(envelope.routingKey);
    if (ignorable) return { kind: "ignore", type };
    const error = new Error(`no handler of ${type}`);
    const delayMs = delaysMs[unknownRounds];
    if (delayMs === undefined) return { kind: "dead-letter", reason: "unknown_type", error };
    const next = { attempt, postponed, unknownRounds: unknownRounds + 1 };
    return { kind: "retry", ...next, delayMs, costsAttempt: false, error };
  }

  return (received, result) => {
    if (result.kind === "done") return HANDLED;
    if (result.kind === "duplicate") return DUPLICATE;
    if (result.kind === "undecodable") return { kind: "dead-letter", reason: "undecodable", error: result.error };
    if (result.kind === "unknown") return unknown(received, result.type);
    if (result.kind === "failed") return failed(received, result.error);
    return { kind: "give-back", error: result.error };
  };
}

const HANDLED: Disposition = { kind: "acknowledge", as: "handled" };
const DUPLICATE: Disposition = { kind: "acknowledge", as: "duplicate" };

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
