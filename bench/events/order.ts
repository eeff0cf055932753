import type { AsyncMessage } from "rabbitmq-client";
import { createCounter } from "./counter.ts";
import type { Stage } from "./stage.ts";

/**
 * Empties the queue with the bare client.
 *
 * @throws Error when an event is missing or is there twice, or when a key's ids do not rise
 */
export async function assertEachInOrder(stage: Stage, events: number): Promise<void> {
  const latest = new Map<string, number>();
  const seen = new Set<string>();
  const counter = createCounter(events);
  let outOfOrder = 0;

  function look({ messageId = "", headers }: AsyncMessage): void {
    const key = String(headers?.["cloudEvents:partitionkey"]);
    const place = Number.parseInt(messageId.replaceAll("-", ""), 16);
    if (place <= (latest.get(key) ?? 0)) outOfOrder++;
    latest.set(key, place);
    seen.add(messageId);
    counter.count();
  }

  const { queue, rabbit } = stage;
  const options = { queue, qos: { prefetchCount: 1_000 }, queueOptions: { passive: true } };
  const consumer = rabbit.createConsumer(options, look);
  await counter.all().finally(() => consumer.close());
  counter.assertNoMore();
  await stage.assertEmpty();
  if (seen.size !== events) throw new Error(`${events} events were relayed, and ${events - seen.size} of them twice`);
  if (outOfOrder > 0) throw new Error(`${outOfOrder} of ${events} events came before an earlier one of their key`);
}
