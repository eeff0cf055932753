/** What a layer wants to know of the items that pass through it, or has a say in. */
export interface ItemWatch<T> {
  /** Each step into the source, so that it can run in a context. */
  readonly around?: <R>(step: () => R) => R;
  /** What it throws takes the item's place, and closes the source. @returns what is handed on */
  readonly onItem?: (item: T) => T;
  /** The source has come to its end. */
  readonly onEnd?: () => void;
  /** The source has failed. @returns what to fail with */
  readonly onError?: (reason: unknown) => unknown;
  /** Whoever reads has left before the end, and the source is closed. */
  readonly onReturn?: () => void;
}

/**
 * The same items, watched. It is what a generator with `try { yield* items }` would be, but that items cost a generator's
 * promises, and through several layers a multiple of them: here several watches share one step.
 */
export function watchItems<T>(items: AsyncIterable<T>, watch: ItemWatch<T>): AsyncIterable<T> {
  if (items instanceof WatchedItems) return new WatchedItems<T>(items.source, [...items.watches, watch]);
  return new WatchedItems(items, [watch]);
}

class WatchedItems<T> implements AsyncIterable<T> {
  readonly source: AsyncIterable<T>;
  /** From the inside out. */
  readonly watches: readonly ItemWatch<T>[];

  constructor(source: AsyncIterable<T>, watches: readonly ItemWatch<T>[]) {
    this.source = source;
    this.watches = watches;
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    return new WatchedIterator(this.source, this.watches);
  }
}

class WatchedIterator<T> implements AsyncIterator<T, undefined> {
  readonly #watches: readonly ItemWatch<T>[];
  readonly #isIndifferent: boolean;
  readonly #around: <R>(step: () => R) => R;
  readonly #inner: AsyncIterator<T>;
  #isOver = false;
  readonly #step: () => Promise<IteratorResult<T>>;
  readonly #onResult: (result: IteratorResult<T>) => IteratorResult<T> | Promise<never>;
  readonly #onFailure: (reason: unknown) => never;

  constructor(source: AsyncIterable<T>, watches: readonly ItemWatch<T>[]) {
    this.#watches = watches;
    this.#isIndifferent = watches.every(({ onItem }) => onItem === undefined);
    this.#around = aroundAll(watches);
    const inner = this.#around(() => source[Symbol.asyncIterator]());
    this.#inner = inner;
    this.#step = () => inner.next();
    this.#onResult = (result) => {
      if (result.done === true) return this.#end();
      return this.#isIndifferent || this.#isOver ? result : this.#item(result);
    };
    this.#onFailure = (reason) => this.#fail(reason, 0);
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#isOver) return Promise.resolve(DONE);
    try {
      return this.#around(this.#step).then(this.#onResult, this.#onFailure);
    } catch (reason) {
      return Promise.reject(reason).catch(this.#onFailure);
    }
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    if (this.#isOver) return DONE;
    this.#isOver = true;
    await this.#close();
    for (const { onReturn } of this.#watches) onReturn?.();
    return DONE;
  }

  async throw(reason: unknown): Promise<IteratorResult<T, undefined>> {
    if (this.#isOver) throw reason;
    const inner = this.#inner;
    const step = inner.throw?.bind(inner);
    if (step !== undefined) return await this.#around(() => step(reason)).then(this.#onResult, this.#onFailure);
    await this.#close();
    return this.#fail(reason, 0);
  }

  async #close(): Promise<void> {
    try {
      await this.#around(() => this.#inner.return?.());
    } catch (reason) {
      this.#fail(reason, 0);
    }
  }

  #item(result: IteratorYieldResult<T>): IteratorResult<T> | Promise<never> {
    let { value } = result;
    for (let index = 0; index < this.#watches.length; index++) {
      const { onItem } = this.#watches[index] ?? {};
      if (onItem === undefined) continue;
      try {
        value = onItem(value);
      } catch (reason) {
        return this.#refuse(reason, index);
      }
    }
    return value === result.value ? result : { done: false, value };
  }

  /** For the layers inside of the one that does not want the item, whoever reads has left. */
  async #refuse(reason: unknown, at: number): Promise<never> {
    this.#isOver = true;
    try {
      await this.#around(() => this.#inner.return?.());
    } catch {
      // What was thrown first counts.
    }
    for (let index = 0; index < at; index++) this.#watches[index]?.onReturn?.();
    return this.#fail(reason, at + 1);
  }

  #end(): IteratorReturnResult<undefined> {
    if (this.#isOver) return DONE;
    this.#isOver = true;
    for (let index = 0; index < this.#watches.length; index++) {
      try {
        this.#watches[index]?.onEnd?.();
      } catch (reason) {
        this.#fail(reason, index + 1);
      }
    }
    return DONE;
  }

  #fail(reason: unknown, from: number): never {
    this.#isOver = true;
    let failure = reason;
    for (let index = from; index < this.#watches.length; index++) {
      const { onError } = this.#watches[index] ?? {};
      if (onError !== undefined) failure = onError(failure);
    }
    throw failure;
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });

function aroundAll<T>(watches: readonly ItemWatch<T>[]): <R>(step: () => R) => R {
  let all: (<R>(step: () => R) => R) | undefined;
  for (const { around } of watches) {
    const inner = all;
    if (around !== undefined) all = inner === undefined ? around : (step) => around(() => inner(step));
  }
  return all ?? ((step) => step());
}
