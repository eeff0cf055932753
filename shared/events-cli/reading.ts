import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import type { AsyncMessage, Channel } from "rabbitmq-client";
import { busUnavailable } from "#shared/event-bus";
import { bounded } from "#shared/timing";
import { ANSWER_TIMEOUT_MS, answered, type Broker, countOf, onChannel } from "./broker.ts";

export interface Reading {
  readonly queue: string;
  /** The most messages that are read, from the head on. MOST_LOOKED_AT is the most that can be left. */
  readonly most: number;
  /** What becomes of a message: called in the queue's order. What it throws ends the reading. */
  readonly judge: (message: AsyncMessage) => Verdict | Promise<Verdict>;
}

export type Verdict = "leave" | "remove";

export interface ReadingResult {
  readonly removed: number;
  /** What the judge threw, or how the queue was lost. What was removed before is removed all the same. */
  readonly failure?: unknown;
}

/** A judge that takes its time has so many messages at once. */
const REMOVED_AT_ONCE = 100;
/** So many the broker takes into its memory at once … */
const LOOKED_AT_AT_ONCE = 1_000;
/** … and keeps account of in the end, each thousand on a channel of its own. */
export const MOST_LOOKED_AT = 100_000;
const PUT_BACK_TIMEOUT_MS = 1_000;
/** After so long without a message it is asked whether there are more. */
const SILENCE_MS = 300;

/** Removes messages from the head of a queue; reading ends at one that is left. */
export async function removeFrom(broker: Broker, reading: Reading): Promise<ReadingResult> {
  return onChannel(broker, async (channel) => {
    let removed = 0;
    for (let read = 0; read < reading.most; ) {
      const size = Math.min(REMOVED_AT_ONCE, reading.most - read);
      const window = await readWindow(channel, reading, size);
      read += window.read;
      removed += window.removed;
      if (window.failure !== undefined) return { removed, failure: window.failure };
      if (window.removed < size) break;
    }
    return { removed };
  });
}

/**
 * Goes through a queue from its head, and puts back what is left, in its place. RabbitMQ puts messages back at the end of
 * those that were put back before, so their order stays only if it has all of them: `most` should be their number.
 *
 * Hence it consumes: each message that is got by `basic.get` counts as a consumer's of its own, and those of several
 * consumers are put back in any order. And hence the channels, each with the messages of one consumer, closed in turn.
 */
export async function lookThrough(broker: Broker, reading: Reading): Promise<ReadingResult> {
  const held: Held[] = [];
  let removed = 0;
  try {
    for (let read = 0; read < reading.most; ) {
      const size = Math.min(LOOKED_AT_AT_ONCE, reading.most - read);
      const hand = { channel: await broker.channel(), left: 0 };
      held.push(hand);
      const window = await readWindow(hand.channel, reading, size);
      hand.left = window.read - window.removed;
      read += window.read;
      removed += window.removed;
      if (window.failure !== undefined) return { removed, failure: window.failure };
      if (window.read < size) break;
    }
    return { removed };
  } finally {
    await putBack(broker, reading.queue, held);
  }
}

/** A channel, and how many messages it has in hand. */
interface Held {
  readonly channel: Channel;
  left: number;
}

/** A closed channel's messages are back a little later: they are waited for, before the next channel's and at the end. */
async function putBack(broker: Broker, queue: string, held: readonly Held[]): Promise<void> {
  let expected = await countOf(broker, queue);
  for (const { channel, left } of held) {
    await bounded(channel.close(), ANSWER_TIMEOUT_MS);
    expected += left;
    const giveUpAt = performance.now() + PUT_BACK_TIMEOUT_MS;
    // Another consumer may take some in the meantime, which changes the order.
    while ((await countOf(broker, queue)) < expected && performance.now() < giveUpAt) await delay(2);
  }
}

/** Reads so many messages, or as many as there are. Those that are left stay in the channel's hands. */
async function readWindow(
  channel: Channel,
  { queue, judge }: Reading,
  size: number,
): Promise<ReadingResult & { readonly read: number }> {
  const ended = Promise.withResolvers<void>();
  const removals: Promise<number | undefined>[] = [];
  let read = 0;
  let over = false;
  let failure: { readonly error: unknown } | undefined;
  let heardAt = performance.now();

  function end(): void {
    over = true;
    ended.resolve();
  }

  function fail(error: unknown): void {
    failure ??= { error };
    end();
  }

  function receive(message: AsyncMessage): void {
    heardAt = performance.now();
    if (over) return;
    read++;
    if (read === size) end();
    try {
      const verdict = judge(message);
      if (verdict !== "leave") removals.push(tagToRemove(message, verdict));
    } catch (error) {
      fail(error);
    }
  }

  async function tagToRemove({ deliveryTag }: AsyncMessage, verdict: Verdict | Promise<Verdict>) {
    try {
      return (await verdict) === "remove" ? deliveryTag : undefined;
    } catch (error) {
      fail(error);
      return undefined;
    }
  }

  const lost = () => fail(busUnavailable("the connection with RabbitMQ was lost"));
  const deleted = () => fail(busUnavailable(`the queue ${queue} was deleted`));
  channel.once("close", lost);
  channel.once("basic.cancel", deleted);
  await answered(channel.basicQos({ prefetchCount: size }));
  const { consumerTag } = await answered(channel.basicConsume({ queue }, receive));
  while (!over) {
    const silenceMs = performance.now() - heardAt;
    if (silenceMs < SILENCE_MS) {
      await bounded(ended.promise, SILENCE_MS - silenceMs);
      continue;
    }
    const asked = read;
    const more = await answered(channel.basicGet(queue));
    // Messages that were delivered before that response are emitted a turn later.
    await turn();
    if (more !== undefined) receive({ ...more, consumerTag });
    else if (read === asked) end();
  }
  const tags = (await Promise.all(removals)).filter((tag) => tag !== undefined);
  let removed = 0;
  try {
    // First, or each answer would bring another message.
    await answered(channel.basicCancel({ consumerTag }));
    acknowledge(channel, tags, read);
    removed = tags.length;
  } catch (error) {
    fail(error);
  }
  channel.off("close", lost);
  channel.off("basic.cancel", deleted);
  return { read, removed, ...(failure !== undefined && { failure: failure.error }) };
}

/**
 * At once, if it is all of them: a channel passes on to a quorum queue a few dozen answers at a time, and forgets the
 * others when it is closed. The messages would come again.
 */
function acknowledge(channel: Channel, tags: readonly number[], read: number): void {
  const last = tags.at(-1);
  if (last !== undefined && tags.length === read) channel.basicAck({ deliveryTag: last, multiple: true });
  else for (const deliveryTag of tags) channel.basicAck({ deliveryTag });
}
