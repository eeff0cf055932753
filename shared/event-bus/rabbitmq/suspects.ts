import { createHash, randomUUID } from "node:crypto";
import type { AsyncMessage, Channel, SyncMessage } from "rabbitmq-client";
import type { Logger } from "#shared/logging";
import { bounded } from "#shared/timing";
import { busUnavailable } from "../errors.ts";
import type { BrokerConnection } from "./connection.ts";
import type { Publisher } from "./publisher.ts";

/**
 * Finds the message whose handler ends the process each time.
 *
 * The broker counts a delivery without an answer for every message that a process had in memory, so its count does not tell
 * which one was being handled. From the second such delivery on, a message is a suspect: it is handled while nothing else is, and
 * before that a note with its identity goes to the queue `<queue>.suspects`. A message with as many notes of earlier
 * processes as `delivery_limit` allows is the culprit. Its neighbours are handled, in their order.
 */
export interface Suspects {
  isSuspect(message: Pick<AsyncMessage, "headers">): boolean;
  /** Before a suspect is handled. Resolves to true when it has ended the process too often. */
  begin(suspect: { readonly id: string; readonly source: string }): Promise<boolean>;
  /** On a new channel: other processes may have left notes. */
  forget(): void;
}

export interface SuspectsOptions {
  readonly queue: string;
  readonly deliveryLimit: number;
  /** Maximum time of each answer of the broker, in milliseconds. */
  readonly timeoutMs: number;
  readonly links: () => { readonly connection: BrokerConnection; readonly publisher: Publisher };
  readonly logger: Logger;
}

/** One delivery without an answer is no ground for suspicion: a connection was lost, or a process stopped. */
const SUSPECT_FROM = 2;
const DAY_MS = 24 * 60 * 60_000;
/** Bounds the memory, and the time of reading. */
const MAX_NOTES = 10_000;
const PROCESS_HEADER = "x-process";
/** Distinguishes this process: a note of its own is no crash. */
const PROCESS = randomUUID();

export function suspectsQueueOf(queue: string): string {
  return `${queue}.suspects`;
}

export function createSuspects({ queue, deliveryLimit, timeoutMs, links, logger }: SuspectsOptions): Suspects {
  const suspectFrom = Math.min(SUSPECT_FROM, deliveryLimit);
  const maxNotes = Math.max(1, deliveryLimit - suspectFrom);
  const notesQueue = suspectsQueueOf(queue);
  let notes: Promise<ReadonlyMap<string, number>> | undefined;

  /** Deleted by the broker when it has not been used for a day. */
  async function read(): Promise<ReadonlyMap<string, number>> {
    const channel = await links().connection.channel();
    try {
      await answered(
        channel.queueDeclare({
          queue: notesQueue,
          durable: true,
          arguments: {
            "x-queue-type": "quorum",
            "x-message-ttl": DAY_MS,
            "x-expires": 2 * DAY_MS,
            "x-max-length": MAX_NOTES,
            "x-delivery-limit": 1_000_000_000,
          },
        }),
      );
      return await countNotes(channel);
    } finally {
      // Gives the notes back.
      await bounded(channel.close(), timeoutMs);
    }
  }

  async function countNotes(channel: Channel): Promise<ReadonlyMap<string, number>> {
    const counts = new Map<string, number>();
    for (let n = 0; n < MAX_NOTES; n++) {
      const note: SyncMessage | undefined = await answered(channel.basicGet({ queue: notesQueue }));
      if (note === undefined) break;
      const { messageId, headers } = note;
      if (messageId === undefined || headers?.[PROCESS_HEADER] === PROCESS) continue;
      counts.set(messageId, (counts.get(messageId) ?? 0) + 1);
    }
    return counts;
  }

  async function answered<T>(work: Promise<T>): Promise<T> {
    const outcome = await bounded(work, timeoutMs);
    if (outcome.kind === "done") return outcome.value;
    throw outcome.kind === "failed" ? outcome.cause : busUnavailable("the broker does not answer");
  }

  return {
    isSuspect: ({ headers }) => Number(headers?.["x-delivery-count"] ?? 0) >= suspectFrom,
    async begin({ id, source }) {
      // AMQP cuts a message id at 255 bytes.
      const messageId = createHash("sha256").update(`${source.length}:${source}${id}`).digest("hex");
      try {
        notes ??= read();
        const found = (await notes).get(messageId) ?? 0;
        if (found >= maxNotes) return true;
        const headers = { [PROCESS_HEADER]: PROCESS };
        const note = { routingKey: notesQueue, messageId, durable: true, mandatory: true, headers };
        await links().publisher.send(note, Buffer.alloc(0));
      } catch (err) {
        // Without a note the message is handled all the same: its delivery count still bounds it.
        notes = undefined;
        logger.warn({ queue, err }, "a suspect message is handled without a note");
      }
      return false;
    },
    forget() {
      notes = undefined;
    },
  };
}
