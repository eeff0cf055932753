import type { EndSignal } from "../call/lazy-abort-signal.ts";

/** Those who wait for one thing, each no longer than its own signal allows, in the order in which they came. */
export interface Waiters<T> {
  /** Rejects with the signal's reason when that fires first. */
  add(signal: EndSignal | undefined): Promise<T>;
  resolveFirst(value: T): void;
  resolveAll(value: T): void;
  rejectFirst(makeError: () => Error): void;
  rejectAll(makeError: () => Error): void;
  size(): number;
}

interface Waiter<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (reason: unknown) => void;
}

/** Its size is that of the calls that wait: whoever leaves is forgotten at once. */
export function createWaiters<T>(): Waiters<T> {
  const waiters = new Set<Waiter<T>>();

  function takeAll(): Waiter<T>[] {
    const all = [...waiters];
    waiters.clear();
    return all;
  }

  return {
    add: (signal) =>
      new Promise<T>((resolve, reject) => {
        const forget = () => {
          waiters.delete(waiter);
          signal?.removeEventListener("abort", onAbort);
        };
        const onAbort = () => {
          forget();
          reject(signal?.reason);
        };
        const waiter: Waiter<T> = {
          resolve: (value) => {
            forget();
            resolve(value);
          },
          reject: (reason) => {
            forget();
            reject(reason);
          },
        };
        if (signal?.aborted) {
          reject(signal.reason);
          return;
        }
        waiters.add(waiter);
        signal?.addEventListener("abort", onAbort);
      }),
    resolveFirst(value) {
      waiters.values().next().value?.resolve(value);
    },
    resolveAll(value) {
      for (const waiter of takeAll()) waiter.resolve(value);
    },
    rejectFirst(makeError) {
      waiters.values().next().value?.reject(makeError());
    },
    rejectAll(makeError) {
      for (const waiter of takeAll()) waiter.reject(makeError());
    },
    size: () => waiters.size,
  };
}
