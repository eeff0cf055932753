import { DomainError } from "#shared/errors";

/** Bounds the time of one handler. */
export interface Deadline {
  /** Fires when the time is over while work is bound. */
  readonly signal: AbortSignal;
  /** On the clock of `performance.now()`. */
  readonly atMs: number;
  /** @throws DomainError EVENT_HANDLER_TIMEOUT when the time is over first */
  bound<T>(work: PromiseLike<T>): Promise<T>;
  /** Stops the timer. */
  end(): void;
}

export function startDeadline(timeoutMs: number): Deadline {
  const controller = new AbortController();
  const atMs = performance.now() + timeoutMs;
  let timer: NodeJS.Timeout | undefined;
  let late: Promise<never> | undefined;

  function startTimer(): Promise<never> {
    const { promise, reject } = Promise.withResolvers<never>();
    const expire = () => {
      const error = new DomainError("deadline_exceeded", "EVENT_HANDLER_TIMEOUT", `not handled in ${timeoutMs} ms`);
      controller.abort(error);
      reject(error);
    };
    timer = setTimeout(expire, Math.ceil(atMs - performance.now()));
    return promise;
  }

  return {
    signal: controller.signal,
    atMs,
    bound(work) {
      // A handler that returns no promise needs no timer.
      late ??= startTimer();
      return Promise.race([work, late]);
    },
    end: () => clearTimeout(timer),
  };
}
