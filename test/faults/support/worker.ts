// A process of a shop, to be killed. What it is to do, and where it is to die, stands in the environment, as JSON.

import process from "node:process";
import { Connection } from "rabbitmq-client";
import { afterCommit } from "#shared/database";
import { until } from "#shared/testing";
import { createShop, type Handle, type ShopOptions } from "./shop.ts";

export interface WorkerOptions {
  readonly shop: ShopOptions;
  /** Sells `<key>-<number>`, one after the other, with a pause after each. Default: none. */
  readonly sell?: { readonly keys: readonly string[]; readonly count: number; readonly pauseMs?: number };
  readonly relay?: boolean;
  readonly deliver?: boolean;
  /** The moment at which it kills itself with SIGKILL, as it comes for the `after`th time (default 1). */
  readonly dieAt?: Moment;
  readonly after?: number;
  /** The moment at which it pauses itself with SIGSTOP, as it comes for the `pauseAfter`th time (default 1). */
  readonly pauseAt?: Moment;
  readonly pauseAfter?: number;
  /** The names that end it with SIGKILL, whenever a handler gets one of them. */
  readonly dieOf?: string | readonly string[];
  /** Each handler's attempts that throw, before one that does not. */
  readonly failures?: number;
  /** How long each handler takes. */
  readonly handlerMs?: number;
}

export type Moment =
  /** A sale is committed, and nobody has nudged the relay. */
  | "sale committed"
  /** The broker has confirmed an event, and the outbox still has it. */
  | "confirmed"
  /** A handler runs, and its transaction is open. */
  | "handling"
  /** A handler's transaction is committed, and its message not acknowledged. */
  | "effect committed"
  /** A failed message is in its retry queue, and not acknowledged where it came from. */
  | "retry published";

const options = JSON.parse(process.env["WORKER"] ?? "{}") as WorkerOptions;
let left = options.after ?? 1;
let leftToPause = options.pauseAfter ?? 1;

function pass(moment: Moment): void {
  if (options.dieAt === moment && --left === 0) process.kill(process.pid, "SIGKILL");
  if (options.pauseAt === moment && --leftToPause === 0) process.kill(process.pid, "SIGSTOP");
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

const shop = createShop({
  ...options.shop,
  onCommitted: () => pass("sale committed"),
  onConfirmed: () => pass("confirmed"),
});

const deliver: Handle = async (name, { attempt, tx, signal }) => {
  if (options.handlerMs !== undefined) {
    await new Promise((resolve) => setTimeout(resolve, options.handlerMs));
    signal.throwIfAborted();
  }
  pass("handling");
  if ([options.dieOf].flat().includes(name)) process.kill(process.pid, "SIGKILL");
  if (attempt <= (options.failures ?? 0)) throw new Error(`attempt ${attempt} fails`);
  await afterCommit(tx, () => pass("effect committed"));
};
const consumer = options.deliver ? shop.deliver(deliver) : undefined;

await shop.start();
// As a service ends: no more sales, then the shop's own order.
const ending = Promise.withResolvers<void>();
let isEnding = false;
process.once("SIGTERM", () => {
  isEnding = true;
  void ending.promise
    .then(() => shop.stop())
    .then(() => {
      say("stopped");
      process.exit(0);
    });
});
say("started");
if (options.dieAt === "retry published") await dieAtFirstAcknowledgement(String(options.shop.rabbitmq["url"]));
if (options.relay) shop.outbox.start();
await consumer?.start();
if (consumer !== undefined) {
  const isConsuming = () => shop.bus.states().consumers.every(({ state }) => state === "consuming");
  void until("it to consume", isConsuming, 60_000).then(() => say("consuming"));
}
if (options.sell !== undefined) {
  const { keys, count, pauseMs } = options.sell;
  for (let n = 0; n < count && !isEnding; n++) {
    for (const key of keys) {
      if (isEnding) break;
      await shop.sell(`${key}-${n}`, key);
      if (pauseMs !== undefined) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
  say("sold");
}
ending.resolve();

/** A failed message is acknowledged for the first time when the broker has confirmed that it is put aside. */
async function dieAtFirstAcknowledgement(url: string): Promise<void> {
  const rabbit = new Connection({ url });
  const channel = await rabbit.acquire();
  const prototype = Object.getPrototypeOf(channel) as { basicAck(params: unknown): void };
  prototype.basicAck = () => pass("retry published");
  await channel.close();
  await rabbit.close().catch(() => {});
}
