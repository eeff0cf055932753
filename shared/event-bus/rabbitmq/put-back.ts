import type { Channel, SyncMessage } from "rabbitmq-client";
import { bounded } from "#shared/timing";
import { busUnavailable } from "../errors.ts";
import { HEADERS } from "./amqp-message.ts";
import type { BrokerConnection } from "./connection.ts";
import type { Publisher } from "./publisher.ts";
import { readdressed } from "./readdressed.ts";
import { deadLetterQueueOf } from "./topology.ts";

export interface PutBackOptions {
  readonly queue: string;
  /** Maximum time of each answer of the broker, in milliseconds. */
  readonly timeoutMs: number;
  readonly links: () => { readonly connection: BrokerConnection; readonly publisher: Publisher };
  readonly signal: AbortSignal;
}

/** Bounds the memory that the dead letters take while they are looked at. */
const MAX_LETTERS = 1_000;
const MAX_BYTES = 64 * 1024 * 1024;
/** A message that the broker takes out again and again stays a dead letter. */
const MAX_TIMES = 3;
const TIMES_HEADER = "x-put-back";

/**
 * Puts back into the work queue what the broker made a dead letter although no handler failed on it: messages that a
 * process had in memory each time it was killed or lost its connection (`delivery_limit`). Dead letters of the consumer
 * itself stay. Looks at the oldest 1,000 dead letters.
 *
 * @returns the number of messages that were put back
 * @throws DomainError EVENT_BUS_UNAVAILABLE; other errors of the broker
 */
export async function putBackDeadLetters(options: PutBackOptions): Promise<number> {
  const { queue, timeoutMs, links, signal } = options;
  const channel = await links().connection.channel();
  const dead = deadLetterQueueOf(queue);
  let moved = 0;
  try {
    const { messageCount } = await answered(channel.queueDeclare({ queue: dead, passive: true }), timeoutMs);
    let bytes = 0;
    for (let n = 0; n < Math.min(messageCount, MAX_LETTERS) && bytes < MAX_BYTES && !signal.aborted; n++) {
      const letter: SyncMessage | undefined = await answered(channel.basicGet({ queue: dead }), timeoutMs);
      if (letter === undefined) break;
      bytes += sizeOf(letter);
      if (!isInnocent(letter)) continue;
      const times = Number(letter.headers?.[TIMES_HEADER] ?? 0) + 1;
      const { envelope, body } = readdressed({ ...letter, consumerTag: "" }, queue, { [TIMES_HEADER]: times });
      await links().publisher.send(envelope, body);
      acknowledge(channel, letter);
      moved++;
    }
    return moved;
  } finally {
    // Gives the other dead letters back.
    await bounded(channel.close(), timeoutMs);
  }
}

/** The consumer strips `x-death` from its own dead letters: where it is, the broker's word is the later one. */
function isInnocent({ headers = {} }: SyncMessage): boolean {
  const deaths: unknown = headers["x-death"];
  const [last] = Array.isArray(deaths) ? (deaths as readonly { readonly reason?: unknown }[]) : [];
  if (last?.reason !== "delivery_limit" || headers[HEADERS.deadReason] !== undefined) return false;
  return Number(headers[TIMES_HEADER] ?? 0) < MAX_TIMES;
}

function acknowledge(channel: Channel, { deliveryTag }: SyncMessage): void {
  channel.basicAck({ deliveryTag });
}

function sizeOf({ body }: SyncMessage): number {
  return body instanceof Uint8Array ? body.length : String(body).length;
}

async function answered<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const outcome = await bounded(work, timeoutMs);
  if (outcome.kind === "done") return outcome.value;
  throw outcome.kind === "failed" ? outcome.cause : busUnavailable("the broker does not answer");
}
