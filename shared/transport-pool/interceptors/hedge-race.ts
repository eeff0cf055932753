import { Code, ConnectError } from "@connectrpc/connect";

/** What the failure of one attempt means for the call. */
export type HedgeVerdict =
  /** The call has failed. */
  | "fatal"
  /** No more hedges; those that are under way may still succeed. */
  | "no_more"
  /** The next hedge is due after so many milliseconds. */
  | { readonly nextInMs: number };

export interface HedgeRaceOptions<T> {
  /** Hedges after the first attempt. */
  readonly max: number;
  readonly delayMs: number;
  /** The call's: ends the race with its reason. */
  readonly signal: AbortSignal;
  /**
   * Sends an attempt, the first with index 0. The signal is the attempt's own.
   */
  readonly send: (index: number, signal: AbortSignal) => Promise<T>;
  /** Asked once for each attempt that has failed. */
  readonly judge: (error: unknown) => HedgeVerdict;
  /** Asked before each hedge. */
  readonly mayHedge: () => boolean;
}

/**
 * Sends an attempt and, while there is no answer, further ones beside it. Settles with the first success, or with the
 * last failure, and cancels whatever is under way then. An attempt's signal also fires when it has ended itself.
 */
export function raceHedges<T>(options: HedgeRaceOptions<T>): Promise<T> {
  const { max, delayMs, signal, send, judge, mayHedge } = options;
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const underWay = new Set<AbortController>();
  let sent = 0;
  let isLast = false;
  let isOver = false;
  let timer: NodeJS.Timeout | undefined;
  let lastError: unknown;

  function attempt(): void {
    const controller = new AbortController();
    underWay.add(controller);
    const index = sent++;
    isLast ||= sent > max;
    send(index, controller.signal).then(
      (answer) => {
        if (isOver) return;
        end(new ConnectError("another attempt was answered first", Code.Canceled));
        resolve(answer);
      },
      (error) => {
        if (isOver) return;
        underWay.delete(controller);
        controller.abort(error);
        failed(error);
      },
    );
    hedgeAfter(delayMs);
  }

  function hedgeAfter(ms: number): void {
    clearTimeout(timer);
    timer = undefined;
    if (isLast || isOver) return;
    if (ms > 0) timer = setTimeout(hedge, ms);
    else hedge();
  }

  function hedge(): void {
    timer = undefined;
    if (mayHedge()) attempt();
    else {
      isLast = true;
      failIfNothingIsLeft();
    }
  }

  function failed(error: unknown): void {
    lastError = error;
    const verdict = judge(error);
    if (verdict === "fatal") {
      end(new ConnectError("another attempt has failed for good", Code.Canceled));
      reject(error);
      return;
    }
    if (verdict === "no_more") isLast = true;
    hedgeAfter(verdict === "no_more" ? 0 : verdict.nextInMs);
    failIfNothingIsLeft();
  }

  function failIfNothingIsLeft(): void {
    if (isOver || underWay.size > 0 || timer !== undefined || lastError === undefined) return;
    end(undefined);
    reject(lastError);
  }

  function end(reason: unknown): void {
    isOver = true;
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    for (const controller of underWay) controller.abort(reason);
  }

  function onAbort(): void {
    end(signal.reason);
    reject(ConnectError.from(signal.reason, Code.Canceled));
  }

  if (signal.aborted) onAbort();
  else {
    signal.addEventListener("abort", onAbort);
    attempt();
  }
  return promise;
}
