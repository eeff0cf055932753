/** Tells the watches of this process that an order has changed, whichever replica has changed it. */
export interface OrderChanges {
  tell(orderId: string): void;
  /**
   * Calls the listener at each change of the order. It must not throw.
   *
   * @returns how to stop that
   */
  listen(orderId: string, listener: () => void): () => void;
}

/** More are not told, and see a change when they look by themselves. */
const MOST_LISTENERS = 10_000;

export function createOrderChanges(mostListeners = MOST_LISTENERS): OrderChanges {
  const listeners = new Map<string, Set<() => void>>();
  let count = 0;

  return {
    tell(orderId) {
      for (const listener of [...(listeners.get(orderId.toLowerCase()) ?? [])]) listener();
    },
    listen(orderId, listener) {
      if (count >= mostListeners) return () => {};
      // Ids are UUIDs, and those are the same in either case.
      const key = orderId.toLowerCase();
      const own = () => listener();
      const others = listeners.get(key) ?? new Set();
      listeners.set(key, others.add(own));
      count++;
      return () => {
        if (!others.delete(own)) return;
        count--;
        if (others.size === 0) listeners.delete(key);
      };
    },
  };
}
