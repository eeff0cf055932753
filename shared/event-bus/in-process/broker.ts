import type { EventEnvelope } from "../envelope.ts";
import { refused, unroutable } from "../errors.ts";
import { type ExchangeType, takes } from "../routing.ts";
import { createQueue, type InProcessDeadLetter, type InProcessQueue } from "./queue.ts";

/**
 * What stands in for RabbitMQ inside of one process: exchanges, queues and bindings in memory. Several services in the
 * process share one, each through its own event bus. It ends with the process, and so does what is in it.
 */
export interface InProcessBroker {
  /** The dead letters of a queue, oldest first; at most the last 1 000. */
  deadLetters(queue: string): readonly InProcessDeadLetter[];
  /** Gives the dead letters back to their queue, as if for the first time; answers how many they were. */
  redrive(queue: string): number;
  /** @internal */
  declare(queue: QueueDeclaration): InProcessQueue;
  /** @internal */
  remove(queue: string): void;
  /** @internal @throws DomainError EVENT_UNROUTABLE, EVENT_REFUSED */
  route(exchange: string, envelope: EventEnvelope): readonly InProcessQueue[];
  /** Ends its timers; answers how many messages are lost with it. */
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

/** This memory is the process's. */
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
      for (const { envelope } of letters) queue?.push({ envelope, attempt: 1, postponed: 0, sender: undefined });
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
