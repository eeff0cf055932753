import { createHash, randomUUID } from "node:crypto";
import type { AsyncMessage, Channel, SyncMessage } from "rabbitmq-client";
import type { LogThrottle } from "#shared/logging";
import { bounded } from "#shared/timing";
import { ATTRIBUTES } from "./amqp-message.ts";
import { answered } from "./answered.ts";
import type { BrokerConnection } from "./connection.ts";
import type { Publisher } from "./publisher.ts";

/**
 * Finds the message whose handler ends the process each time.
 *
 * The broker counts an unacknowledged delivery for every message that a process had in memory, so its count does not tell which
 * one was being handled. From the second such delivery on, a message is a suspect: it is handled while nothing else is, and
 * before that a note with its identity goes to the queue `<queue>.suspects`. A second note says that the process has survived. A
 * message that as many processes as `delivery_limit` allows have not survived is the culprit. Its neighbours are
 * handled, in their order.
 */
export interface Suspects {
  isSuspect(message: Pick<AsyncMessage, "headers">): boolean;
  /** Notes that a suspect is going to be handled. Resolves to true when it has ended too many processes. */
  begin(suspect: AsyncMessage): Promise<boolean>;
  /** Notes that the process has survived the suspect, whatever came of it. */
  end(suspect: AsyncMessage): Promise<void>;
  /** Forgets the notes that were read. To be called for a new channel: other processes may have left some. */
  forget(): void;
}

export interface SuspectsOptions {
  readonly queue: string;
  readonly deliveryLimit: number;
  /** Maximum time of each response of the broker, in milliseconds. */
  readonly timeoutMs: number;
  readonly links: () => { readonly connection: BrokerConnection; readonly publisher: Publisher };
  readonly log: LogThrottle;
}

/** One unacknowledged delivery is no ground for suspicion: a connection was lost, or a process stopped. */
const SUSPECT_FROM = 2;
const DAY_MS = 24 * 60 * 60_000;
/** Bounds the memory, and the time of reading. */
const MAX_NOTES = 10_000;
const PROCESS_HEADER = "x-process";
const SURVIVED_HEADER = "x-survived";
/** Distinguishes this process, whose own notes are no crash. */
const PROCESS = randomUUID();

export function suspectsQueueOf(queue: string): string {
  return `${queue}.suspects`;
}

export function createSuspects({ queue, deliveryLimit, timeoutMs, links, log }: SuspectsOptions): Suspects {
  const suspectFrom = Math.min(SUSPECT_FROM, deliveryLimit);
  const maxDeaths = Math.max(1, deliveryLimit - suspectFrom);
  const notesQueue = suspectsQueueOf(queue);
  let deaths: Promise<ReadonlyMap<string, number>> | undefined;

  /** The broker deletes the queue when it has not been used for two days. */
  async function read(): Promise<ReadonlyMap<string, number>> {
    const channel = await links().connection.channel();
    try {
      const settings = {
        "x-queue-type": "quorum" as const,
        "x-message-ttl": DAY_MS,
        "x-expires": 2 * DAY_MS,
        "x-max-length": MAX_NOTES,
        "x-delivery-limit": 1_000_000_000,
      };
      const declared = channel.queueDeclare({ queue: notesQueue, durable: true, arguments: settings });
      await answered(declared, timeoutMs);
      return await countDeaths(channel);
    } finally {
      // Gives the notes back.
      await bounded(channel.close(), timeoutMs);
    }
  }

  /** Number of other processes that have begun and not survived a message, by its identity. */
  async function countDeaths(channel: Channel): Promise<ReadonlyMap<string, number>> {
    /** Attempts that were not survived, by identity and process. */
    const open = new Map<string, Map<string, number>>();
    for (let n = 0; n < MAX_NOTES; n++) {
      const note: SyncMessage | undefined = await answered(channel.basicGet({ queue: notesQueue }), timeoutMs);
      if (note === undefined) break;
      const { messageId = "", headers = {} } = note;
      const process = String(headers[PROCESS_HEADER]);
      if (process === PROCESS) continue;
      const processes = open.get(messageId) ?? new Map<string, number>();
      open.set(messageId, processes);
      processes.set(process, (processes.get(process) ?? 0) + (SURVIVED_HEADER in headers ? -1 : 1));
    }
    const counts = [...open].map(([messageId, processes]): [string, number] => {
      return [messageId, [...processes.values()].filter((attempts) => attempts > 0).length];
    });
    return new Map(counts);
  }

  async function note(suspect: AsyncMessage, more: Readonly<Record<string, number>>): Promise<void> {
    const headers = { [PROCESS_HEADER]: PROCESS, ...more };
    const envelope = {
      routingKey: notesQueue,
      messageId: identityOf(suspect),
      durable: true,
      mandatory: true,
      headers,
    };
    await links().publisher.send(envelope, Buffer.alloc(0));
  }

  return {
    isSuspect: ({ headers }) => Number(headers?.["x-delivery-count"] ?? 0) >= suspectFrom,
    async begin(suspect) {
      try {
        deaths ??= read();
        if (((await deaths).get(identityOf(suspect)) ?? 0) >= maxDeaths) return true;
        await note(suspect, {});
      } catch (err) {
        // Without a note the message is handled all the same: its delivery count still bounds it.
        deaths = undefined;
        log.warn("suspect", { queue, err }, "a suspect message is handled without a note");
      }
      return false;
    },
    async end(suspect) {
      try {
        await note(suspect, { [SURVIVED_HEADER]: 1 });
      } catch (err) {
        log.warn("suspect", { queue, err }, "the note on a suspect message could not be withdrawn");
      }
    },
    forget() {
      deaths = undefined;
    },
  };
}

/** The event's source and id; for a message without an id, its content. A hash, since AMQP cuts a message id at 255 bytes. */
function identityOf({ messageId, headers = {}, appId, routingKey, body }: AsyncMessage): string {
  const id = messageId || headers[ATTRIBUTES.id];
  const source = headers[ATTRIBUTES.source] || appId || "";
  const hash = createHash("sha256");
  if (id) hash.update(JSON.stringify([String(source), String(id)]));
  else hash.update(routingKey).update(Buffer.isBuffer(body) ? body : JSON.stringify(body));
  return hash.digest("hex");
}
