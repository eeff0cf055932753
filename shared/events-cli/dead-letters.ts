import type { AsyncMessage } from "rabbitmq-client";
import { createPublisher, type Decode, deadLetterQueueOf } from "#shared/event-bus";
import { ANSWER_TIMEOUT_MS, type Broker, countOf } from "./broker.ts";
import { type DeadLetter, deadLetterOf, idOf, redriven } from "./dead-letter.ts";
import { deadLetterNotFound } from "./errors.ts";
import { lookThrough, MOST_LOOKED_AT, type ReadingResult, removeFrom } from "./reading.ts";
import { type WholeDeadLetter, wholeOf } from "./whole-dead-letter.ts";

/** The work queue whose dead letters are meant, and which of them. */
export interface DeadLettersOptions {
  readonly queue: string;
  /** All copies of one event among the oldest 100 000. Default: all dead letters that there are at the start. */
  readonly id?: string | undefined;
  /** The most dead letters, the oldest first. Default: their number at the start. */
  readonly limit?: number | undefined;
}

export interface DeadLetterList {
  readonly queue: string;
  readonly deadLetterQueue: string;
  /** The oldest first. */
  readonly deadLetters: readonly DeadLetter[];
  /** How many there are besides. */
  readonly more: number;
}

/**
 * Lists the dead letters at the head of the queue. No more than `limit` are taken from the broker, and put back. RabbitMQ
 * puts them behind others that were put back before: a shorter list after a longer one may begin with later ones.
 *
 * @throws DomainError QUEUE_NOT_FOUND, EVENT_BUS_UNAVAILABLE
 */
export async function listDeadLetters(
  broker: Broker,
  { queue, limit = 100 }: Pick<DeadLettersOptions, "queue" | "limit">,
): Promise<DeadLetterList> {
  const deadLetterQueue = deadLetterQueueOf(queue);
  const count = await countOf(broker, deadLetterQueue);
  const deadLetters: DeadLetter[] = [];
  const { failure } = await lookThrough(broker, {
    queue: deadLetterQueue,
    most: Math.min(count, limit, MOST_LOOKED_AT),
    judge(message) {
      deadLetters.push(deadLetterOf(message));
      return "leave";
    },
  });
  if (failure !== undefined) throw failure;
  return { queue, deadLetterQueue, deadLetters, more: count - deadLetters.length };
}

/**
 * Looks at the oldest dead letter with this id, among the oldest 100 000.
 *
 * @throws DomainError QUEUE_NOT_FOUND, DEAD_LETTER_NOT_FOUND, EVENT_BUS_UNAVAILABLE
 */
export async function showDeadLetter(
  broker: Broker,
  { queue, id, decode }: { readonly queue: string; readonly id: string; readonly decode: Decode },
): Promise<WholeDeadLetter> {
  const deadLetterQueue = deadLetterQueueOf(queue);
  const count = await countOf(broker, deadLetterQueue);
  const most = Math.min(count, MOST_LOOKED_AT);
  let found: AsyncMessage | undefined;
  const { failure } = await lookThrough(broker, {
    queue: deadLetterQueue,
    most,
    judge(message) {
      if (found === undefined && idOf(message) === id) found = message;
      return "leave";
    },
  });
  if (failure !== undefined) throw failure;
  if (found === undefined) throw deadLetterNotFound(deadLetterQueue, id, most, count);
  return wholeOf(found, decode);
}

export interface DeadLettersMoved {
  /** How many were moved, or dropped. */
  readonly done: number;
  /** Of how many that were meant: that less `done` are where they were. */
  readonly of: number;
  /** Why it has ended early: the queue is full, the broker was lost … */
  readonly failure?: unknown;
}

/**
 * Gives dead letters back to their work queue, as if they had never failed. Each is there before it is gone here: what is
 * killed midway leaves copies with the same id at the worst, a hundred of them, which an inbox absorbs. It ends, though handlers fail again at
 * once: what comes after its start is left.
 *
 * @throws DomainError QUEUE_NOT_FOUND for either queue, DEAD_LETTER_NOT_FOUND, EVENT_BUS_UNAVAILABLE
 */
export async function redriveDeadLetters(broker: Broker, options: DeadLettersOptions): Promise<DeadLettersMoved> {
  const { queue } = options;
  await countOf(broker, queue);
  const publisher = createPublisher({ connection: broker, prepare: async () => {}, timeoutMs: ANSWER_TIMEOUT_MS });
  try {
    return await remove(broker, options, async (message) => {
      const { envelope, body } = redriven(message, queue);
      await publisher.send(envelope, body);
    });
  } finally {
    await publisher.close(ANSWER_TIMEOUT_MS);
  }
}

/** Deletes dead letters. @throws DomainError QUEUE_NOT_FOUND, DEAD_LETTER_NOT_FOUND, EVENT_BUS_UNAVAILABLE */
export async function dropDeadLetters(broker: Broker, options: DeadLettersOptions): Promise<DeadLettersMoved> {
  return remove(broker, options, () => {});
}

async function remove(
  broker: Broker,
  { queue, id, limit = Number.POSITIVE_INFINITY }: DeadLettersOptions,
  first: (message: AsyncMessage) => Promise<void> | void,
): Promise<DeadLettersMoved> {
  const deadLetterQueue = deadLetterQueueOf(queue);
  const count = await countOf(broker, deadLetterQueue);
  if (id === undefined) {
    const most = Math.min(limit, count);
    const judge = (message: AsyncMessage) => removal(first(message));
    return moved(await removeFrom(broker, { queue: deadLetterQueue, most, judge }), most);
  }
  const most = Math.min(count, MOST_LOOKED_AT);
  let copies = 0;
  const result = await lookThrough(broker, {
    queue: deadLetterQueue,
    most,
    judge(message) {
      if (idOf(message) !== id) return "leave";
      copies++;
      return removal(first(message));
    },
  });
  if (copies === 0 && result.failure === undefined) throw deadLetterNotFound(deadLetterQueue, id, most, count);
  return moved(result, copies);
}

async function removal(first: Promise<void> | void): Promise<"remove"> {
  await first;
  return "remove";
}

function moved({ removed, ...rest }: ReadingResult, of: number): DeadLettersMoved {
  return { done: removed, of, ...("failure" in rest && { failure: rest.failure }) };
}
