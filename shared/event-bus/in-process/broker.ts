import type { EventEnvelope } from "../envelope.ts";
import { refused, unroutable } from "../errors.ts";
import { type ExchangeType, takes } from "../routing.ts";
import { createQueue, type InProcessDeadLetter, type InProcessQueue } from "./queue.ts";

/**
 * Exchanges, queues and bindings in the memory of one process, in place of RabbitMQ. Several services in the process share
 * one, each through its own event bus. What is in it ends with the process.
 */
export interface InProcessBroker {
  /** Dead letters of a queue, the oldest first; at most the last 1,000. */
  deadLetters(queue: string): readonly InProcessDeadLetter[];
  /** Puts the dead letters back into their queue, as if for the first time. Returns their number. */
  redrive(queue: string): number;
  /** @internal */
  declare(queue: QueueDeclaration): InProcessQueue;
  /** @internal */
  remove(queue: string): void;
  /** @internal @throws DomainError EVENT_UNROUTABLE, EVENT_REFUSED */
  route(exchange: string, envelope: EventEnvelope): readonly InProcessQueue[];
  /** Stops its timers. Returns the number of messages that are lost with it. */
  close(): number;
}

export interface QueueDeclaration {
  readonly name: string;
  readonly exchange: string;
  readonly exchangeType: ExchangeType;
  readonly bindingKeys: readonly string[];
  /** 0 is `MOST_MESSAGES`. */
  readonly maxLength: number;
}

/** Bounds the memory. */
const MOST_MESSAGES = 100_000;

interface Bound extends QueueDeclaration {
  readonly queue: InProcessQueue;
}

export function createInProcessBroker(): InProcessBroker {
  const queues = new Map<string, Bound>();

  return {
    deadLetters: (name) => queues.get(name)?.queue.deadLetters ?? [],
    redrive(name) {
      const queue = queues.get(name)?.queue;
      const letters = queue?.exhume() ?? [];
      for (const { envelope } of letters)
        queue?.push({ envelope, attempt: 1, postponed: 0, unknownRounds: 0, sender: undefined });
      return letters.length;
    },
    declare(declaration) {
      const there = queues.get(declaration.name);
      const queue = there?.queue ?? createQueue(declaration.name);
      const bindingKeys = [...new Set([...(there?.bindingKeys ?? []), ...declaration.bindingKeys])];
      queues.set(declaration.name, { ...declaration, bindingKeys, queue });
      return queue;
    },
    remove(name) {
      queues.get(name)?.queue.close();
      queues.delete(name);
    },
    route(exchange, { routingKey, mustBeRouted }) {
      const taking: InProcessQueue[] = [];
      for (const bound of queues.values()) {
        if (bound.exchange !== exchange) continue;
        if (!bound.bindingKeys.some((key) => takes(bound.exchangeType, key, routingKey))) continue;
        if (bound.queue.length >= (bound.maxLength || MOST_MESSAGES)) throw refused(`the queue ${bound.name} is full`);
        taking.push(bound.queue);
      }
      if (taking.length === 0 && mustBeRouted) throw unroutable(routingKey);
      return taking;
    },
    close() {
      let lost = 0;
      for (const { queue } of queues.values()) lost += queue.close();
      queues.clear();
      return lost;
    },
  };
}
