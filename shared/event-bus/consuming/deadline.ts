import { DomainError } from "#shared/errors";

/** Bounds the time of one handler. */
export interface Deadline {
  /** Fires when the time is over. */
  readonly signal: AbortSignal;
  /** On the clock of `performance.now()`. */
  readonly atMs: number;
  /** @throws DomainError EVENT_HANDLER_TIMEOUT when the time is over first */
  bound<T>(work: Promise<T>): Promise<T>;
  /** Stops the timer. */
  end(): void;
}

export function startDeadline(timeoutMs: number): Deadline {
  const controller = new AbortController();
  const { promise: late, reject } = Promise.withResolvers<never>();
  // Without work to bound, the rejection has no other listener.
  late.catch(() => {});
  const timer = setTimeout(() => {
    const error = new DomainError("deadline_exceeded", "EVENT_HANDLER_TIMEOUT", `not handled in ${timeoutMs} ms`);
    controller.abort(error);
    reject(error);
  }, timeoutMs);
  return {
    signal: controller.signal,
    atMs: performance.now() + timeoutMs,
    bound: (work) => Promise.race([work, late]),
    end: () => clearTimeout(timer),
  };
}
