// A process of the orders' service, to be killed. What it is to do stands in the environment, as JSON.

import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { createOrders, type OrdersOptions } from "./orders.ts";

export interface WorkerOptions {
  readonly orders: OrdersOptions;
  /** Places orders of these keys, in turn. */
  readonly keys: readonly string[];
  readonly pauseMs: number;
}

const { orders: ordersOptions, keys, pauseMs } = JSON.parse(process.env["WORKER"] ?? "{}") as WorkerOptions;
const orders = createOrders(ordersOptions);
let isEnding = false;
process.once("SIGTERM", () => {
  isEnding = true;
});
await orders.start();
process.stdout.write("started\n");
for (let n = 0; !isEnding; n++) {
  const key = keys[n % keys.length];
  // What has failed may have been committed all the same: the next one's number shows it.
  if (key !== undefined) await orders.place(key).catch((error: unknown) => process.stdout.write(`${error}\n`));
  await delay(pauseMs);
}
await orders.stop();
process.exit(0);
