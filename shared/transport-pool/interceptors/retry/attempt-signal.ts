import { Code, ConnectError } from "@connectrpc/connect";

/** The signal of one attempt: fires with its call's, and when the attempt has taken too long. */
export interface AttemptSignal {
  readonly signal: AbortSignal;
  /** Whether it was the attempt's own time that has run out. */
  hasTimedOut(): boolean;
  /** The attempt's time begins, anew if it had begun. */
  startTimer(): void;
  /** The attempt has an answer, or waits for a peer: only the call's end fires the signal now. */
  stopTimer(): void;
  /** The attempt has failed: fires the signal, so that nothing of it stays behind. */
  fail(error: unknown): void;
}

/**
 * Without a timeout, an attempt ends with its call and needs no signal of its own.
 *
 * @param timeoutMs from `startTimer` on
 */
export function createAttemptSignal(call: AbortSignal, timeoutMs: number | undefined): AttemptSignal {
  if (timeoutMs === undefined) {
    return { signal: call, hasTimedOut: () => false, startTimer: nothing, stopTimer: nothing, fail: nothing };
  }
  const controller = new AbortController();
  let hasTimedOut = false;
  let timer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    clearTimeout(timer);
    controller.abort(call.reason);
  };
  const onTimeout = () => {
    hasTimedOut = true;
    controller.abort(new ConnectError(`the attempt took longer than ${timeoutMs} ms`, Code.DeadlineExceeded));
  };
  if (call.aborted) onAbort();
  else call.addEventListener("abort", onAbort, { once: true });
  return {
    signal: controller.signal,
    hasTimedOut: () => hasTimedOut,
    startTimer() {
      clearTimeout(timer);
      if (!controller.signal.aborted) timer = setTimeout(onTimeout, timeoutMs);
    },
    stopTimer: () => clearTimeout(timer),
    fail(error) {
      clearTimeout(timer);
      call.removeEventListener("abort", onAbort);
      controller.abort(error);
    },
  };
}

function nothing(): void {}
