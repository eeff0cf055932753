import type { AsyncMessage, Channel } from "rabbitmq-client";
import type { LogThrottle } from "#shared/logging";
import { bounded } from "#shared/timing";
import { HEADERS } from "./amqp-message.ts";
import { answered } from "./answered.ts";
import type { BrokerConnection } from "./connection.ts";
import { deathsOf } from "./origin.ts";
import type { Publisher } from "./publisher.ts";
import { readdressed } from "./readdressed.ts";
import { deadLetterQueueOf } from "./topology.ts";

export interface PutBackOptions {
  readonly queue: string;
  /** Maximum time of each response of the broker, in milliseconds. */
  readonly timeoutMs: number;
  readonly links: () => { readonly connection: BrokerConnection; readonly publisher: Publisher };
  /** Number of dead letters that are no news: when there are not more, there is nothing to look for. */
  readonly knownCount: number;
  readonly log: LogThrottle;
}

export interface PutBackResult {
  readonly putBack: number;
  /** Number of dead letters that stay. */
  readonly count: number;
}

/** Bounds the memory that the dead letters take while they are looked at. */
const MAX_LETTERS = 10_000;
const MAX_BYTES = 64 * 1024 * 1024;
/** A message that the broker takes out again and again stays a dead letter. */
const MAX_TIMES = 3;
const TIMES_HEADER = "x-put-back";

/**
 * Puts back into the work queue what the broker made a dead letter although no handler failed on it: messages that a
 * process had in memory each time it was killed or lost its connection (`delivery_limit`). Dead letters of the consumer
 * itself stay. Looks at up to 10,000 dead letters.
 *
 * @throws DomainError EVENT_BUS_UNAVAILABLE; other errors of the broker
 */
export async function putBackDeadLetters(options: PutBackOptions): Promise<PutBackResult> {
  const { queue, timeoutMs, links, knownCount, log } = options;
  const channel = await links().connection.channel();
  const dead = deadLetterQueueOf(queue);
  try {
    const { messageCount } = await answered(channel.queueDeclare({ queue: dead, passive: true }), timeoutMs);
    if (messageCount <= knownCount) return { putBack: 0, count: messageCount };
    let putBack = 0;
    for (const letter of await lookAt(channel, dead, Math.min(messageCount, MAX_LETTERS), timeoutMs)) {
      if (!isInnocent(letter)) continue;
      try {
        const times = { [TIMES_HEADER]: timesOf(letter) + 1 };
        const { envelope, body } = readdressed(letter, queue, times);
        await links().publisher.send(envelope, body);
        channel.basicAck({ deliveryTag: letter.deliveryTag });
        putBack++;
      } catch (err) {
        log.warn("put back", { queue, err }, "a dead letter of the broker cannot be put back yet");
      }
    }
    return { putBack, count: messageCount - putBack };
  } finally {
    // Gives the other dead letters back.
    await bounded(channel.close(), timeoutMs);
  }
}

/** Takes so many messages in hand, or as many as come in time. */
async function lookAt(channel: Channel, queue: string, count: number, timeoutMs: number): Promise<AsyncMessage[]> {
  const letters: AsyncMessage[] = [];
  const { promise: all, resolve } = Promise.withResolvers<void>();
  let bytes = 0;
  channel.once("close", resolve);
  await answered(channel.basicQos({ prefetchCount: count }), timeoutMs);
  const consuming = channel.basicConsume({ queue }, (letter) => {
    letters.push(letter);
    bytes += Buffer.isBuffer(letter.body) ? letter.body.length : 0;
    if (letters.length >= count || bytes > MAX_BYTES) resolve();
  });
  const { consumerTag } = await answered(consuming, timeoutMs);
  await bounded(all, timeoutMs);
  await answered(channel.basicCancel({ consumerTag }), timeoutMs);
  return letters;
}

/** The consumer strips `x-death` from its own dead letters: where it is, the broker's word is the later one. */
function isInnocent(letter: AsyncMessage): boolean {
  const isOurs = letter.headers?.[HEADERS.deadReason] !== undefined;
  return deathsOf(letter)[0]?.reason === "delivery_limit" && !isOurs && timesOf(letter) < MAX_TIMES;
}

function timesOf({ headers }: AsyncMessage): number {
  return Number(headers?.[TIMES_HEADER] ?? 0);
}
