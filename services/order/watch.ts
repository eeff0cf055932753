import timers from "node:timers/promises";
import type { Order, OrderStatus } from "./orders.ts";

export interface WatchOptions {
  readonly read: () => Promise<Order>;
  readonly intervalMs: number;
  readonly signal: AbortSignal;
}

const FINAL: ReadonlySet<OrderStatus> = new Set(["CONFIRMED", "CANCELLED"]);

/**
 * The order as it is, then after each change of status, until that is final. It looks again and again, since any
 * replica may have changed the order. Throws the signal's reason when that fires, and what `read` throws.
 */
export async function* watch({ read, intervalMs, signal }: WatchOptions): AsyncGenerator<Order, void, undefined> {
  let seen: OrderStatus | undefined;
  for (;;) {
    const order = await read();
    if (order.status !== seen) yield order;
    seen = order.status;
    if (FINAL.has(seen)) return;
    // Rejects for no reason but the signal.
    await timers.setTimeout(intervalMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
