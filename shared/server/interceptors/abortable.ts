/** The promise, or a rejection with the signal's reason if that fires first. */
export async function abortable<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort);
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** The items, until the signal fires: then a rejection with its reason, even in the middle of a step. */
export function abortableItems<T>(signal: AbortSignal, items: AsyncIterable<T>): AsyncIterable<T> {
  return { [Symbol.asyncIterator]: () => new AbortableIterator(signal, items[Symbol.asyncIterator]()) };
}

/** Listens to the signal for as long as it is read: a listener for each step would cost more than the step. */
class AbortableIterator<T> implements AsyncIterator<T, undefined> {
  readonly #signal: AbortSignal;
  readonly #inner: AsyncIterator<T>;
  #state: "new" | "open" | "over" = "new";
  #step: PromiseWithResolvers<IteratorResult<T, undefined>> | undefined;
  readonly #again = () => this.next();
  readonly #onAbort = () => this.#abort();
  readonly #onResult = (result: IteratorResult<T>) => {
    if (result.done === true) this.#end();
    this.#settle()?.resolve(result.done === true ? DONE : result);
  };
  readonly #onFailure = (reason: unknown) => {
    // A source that failed has closed itself.
    this.#end();
    this.#settle()?.reject(reason);
  };

  constructor(signal: AbortSignal, inner: AsyncIterator<T>) {
    this.#signal = signal;
    this.#inner = inner;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    // As a generator has it, one step waits for the other.
    if (this.#step !== undefined) return this.#step.promise.then(this.#again, this.#again);
    if (this.#state === "over") return Promise.resolve(DONE);
    if (this.#signal.aborted) {
      this.#leave();
      return Promise.reject(this.#signal.reason);
    }
    if (this.#state === "new") {
      this.#state = "open";
      this.#signal.addEventListener("abort", this.#onAbort);
    }
    const step = Promise.withResolvers<IteratorResult<T, undefined>>();
    this.#step = step;
    this.#inner.next().then(this.#onResult, this.#onFailure);
    return step.promise;
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    if (this.#state === "over") return DONE;
    this.#end();
    await this.#inner.return?.();
    return DONE;
  }

  #abort(): void {
    this.#end();
    const step = this.#settle();
    if (step === undefined) {
      // Whoever asks for the next item learns of it.
      this.#state = "open";
      return;
    }
    this.#leave();
    step.reject(this.#signal.reason);
  }

  /** What is left behind in the middle of a step closes when the step ends, and nobody is left to hear how. */
  #leave(): void {
    this.#end();
    this.#inner.return?.().catch(() => {});
  }

  #end(): void {
    this.#state = "over";
    this.#signal.removeEventListener("abort", this.#onAbort);
  }

  #settle(): PromiseWithResolvers<IteratorResult<T, undefined>> | undefined {
    const step = this.#step;
    this.#step = undefined;
    return step;
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });
