import timers from "node:timers/promises";
import type { Order, OrderStatus } from "./orders.ts";

export interface WatchOptions {
  readonly read: () => Promise<Order>;
  /** Has the listener called when the order may have changed; answers how to stop that. */
  readonly listen: (listener: () => void) => () => void;
  readonly intervalMs: number;
  readonly signal: AbortSignal;
}

const FINAL: ReadonlySet<OrderStatus> = new Set(["CONFIRMED", "CANCELLED"]);

/**
 * The order as it is, then after each change of status, until that is final. It looks when it is told of a change, and at
 * the interval, since word may get lost. Throws the signal's reason when that fires, and what `read` throws.
 */
export async function* watch(options: WatchOptions): AsyncGenerator<Order, void, undefined> {
  const { read, listen, intervalMs, signal } = options;
  let change = new AbortController();
  const leave = listen(() => change.abort());
  try {
    let seen: OrderStatus | undefined;
    for (;;) {
      // Before the look: a change during it is looked at too.
      change = new AbortController();
      const order = await read();
      if (order.status !== seen) yield order;
      seen = order.status;
      if (FINAL.has(seen)) return;
      const ending = AbortSignal.any([signal, change.signal]);
      // Rejects for no reason but these two.
      await timers.setTimeout(intervalMs, undefined, { signal: ending }).catch(() => signal.throwIfAborted());
    }
  } finally {
    leave();
  }
}
