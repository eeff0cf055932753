import { Code, ConnectError } from "@connectrpc/connect";
import type { Endpoint } from "../balancing/endpoint.ts";
import type { EndSignal } from "../call/lazy-abort-signal.ts";
import { notProcessedKind } from "../call/not-processed-error.ts";
import { isServerFault } from "../config/codes.ts";

/** What the outcome of an attempt says of its endpoint. */
export type OnOutcome = (endpoint: Endpoint, isFault: boolean) => void;

export interface AttemptOutcomeOptions {
  /** Where it has begun. */
  readonly endpoint: Endpoint;
  readonly signal: EndSignal;
  readonly isStream: boolean;
  /** On the clock of `performance.now()`. */
  readonly startedAt: number;
  readonly onOutcome: OnOutcome;
}

/** Tells an endpoint, once, how an attempt went that has begun there. */
export class AttemptOutcome {
  readonly #options: AttemptOutcomeOptions;
  #isAnswered = false;
  hasEnded = false;

  constructor(options: AttemptOutcomeOptions) {
    this.#options = options;
  }

  /** A unary call has its answer. */
  succeeded(): void {
    const now = performance.now();
    this.ended(undefined, now - this.#options.startedAt, now);
  }

  /** A stream is there. How long it goes on says nothing, and neither does when it begins: with its first message. */
  answered(): void {
    this.#isAnswered = true;
  }

  ended(code: Code | undefined, ms?: number, now = performance.now()): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    const { endpoint, onOutcome } = this.#options;
    const isFault = code !== undefined && isServerFault(code);
    endpoint.end({ isFault, now, ms });
    if (code !== Code.Canceled) onOutcome(endpoint, isFault);
  }

  failed(reason: unknown): void {
    if (this.hasEnded) return;
    const { endpoint, signal, isStream, startedAt } = this.#options;
    // Connect's own meaning on the way out: the signal's reason, when that is what has ended the attempt.
    const error = ConnectError.from(signal.aborted ? signal.reason : reason, Code.Canceled);
    if (notProcessedKind(error) !== undefined) {
      // Says nothing of the peer but that it is going, and its connection says that itself.
      this.hasEnded = true;
      endpoint.end({ isFault: false, now: performance.now() });
      return;
    }
    const isTimeUp = signal.aborted && error.code === Code.DeadlineExceeded;
    if (this.#isAnswered) {
      // A stream goes on for as long as the caller wanted to watch: no fault of anybody.
      this.ended(isTimeUp ? Code.Canceled : error.code);
      return;
    }
    // Whoever left has waited for so long, and the answer was still to come.
    const ms = performance.now() - startedAt;
    const isSlow = ms > (endpoint.latencyMs(performance.now()) ?? 0);
    if (isTimeUp || (signal.aborted && isSlow)) endpoint.subchannel.checkAlive();
    // Connect's servers begin a stream with its first message, for which there may have been no reason yet.
    if (isStream && isTimeUp) {
      this.ended(Code.Canceled);
      return;
    }
    this.ended(error.code, error.code !== Code.Canceled || isSlow ? ms : undefined);
  }
}
