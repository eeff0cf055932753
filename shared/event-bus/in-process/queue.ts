import type { DeadLetterReason, Received } from "../consuming/handling.ts";
import type { EventEnvelope } from "../envelope.ts";

/** A message in a queue's memory. */
export interface QueuedMessage extends Received {
  /** Called once, when the first attempt has ended or can never begin. */
  readonly onFirstAttempt: (() => void) | undefined;
}

export interface InProcessDeadLetter {
  readonly envelope: EventEnvelope;
  readonly attempts: number;
  readonly reason: DeadLetterReason;
  readonly error: string;
}

/** Where a queue's messages go: as many as it has room for. */
export interface QueueConsumer {
  readonly room: number;
  take(message: QueuedMessage): void;
}

export interface InProcessQueue {
  readonly name: string;
  /** Those that wait for a consumer. */
  readonly length: number;
  readonly deadLetters: readonly InProcessDeadLetter[];
  push(message: QueuedMessage): void;
  /** Puts back what a consumer has not begun, before all others. */
  putBack(messages: readonly QueuedMessage[]): void;
  pushLater(message: QueuedMessage, delayMs: number): void;
  bury(letter: InProcessDeadLetter): void;
  /** Takes all dead letters out. */
  exhume(): InProcessDeadLetter[];
  /** @returns how to take it away again */
  connect(consumer: QueueConsumer): () => void;
  /** A consumer has room again. */
  pump(): void;
  /** Ends its timers; answers how many messages are lost with it. */
  close(): number;
  /** The same, while others go on: nobody waits any longer for a first attempt in here. */
  drop(): void;
}

/** More are dropped, oldest first: this memory is the process's. */
const MOST_DEAD_LETTERS = 1_000;

export function createQueue(name: string): InProcessQueue {
  let waiting: QueuedMessage[] = [];
  let head = 0;
  let consumers: QueueConsumer[] = [];
  const deadLetters: InProcessDeadLetter[] = [];
  const timers = new Set<NodeJS.Timeout>();

  function pump(): void {
    while (head < waiting.length) {
      const free = consumers.findIndex(({ room }) => room > 0);
      const consumer = consumers[free];
      const message = waiting[head];
      if (consumer === undefined || message === undefined) break;
      head++;
      // Round robin: whoever has had one is the last to get the next.
      consumers = [...consumers.toSpliced(free, 1), consumer];
      consumer.take(message);
    }
    if (head === waiting.length || head > 10_000) {
      waiting = waiting.slice(head);
      head = 0;
    }
  }

  function push(message: QueuedMessage): void {
    waiting.push(message);
    pump();
  }

  function close(): number {
    const lost = waiting.length - head + timers.size;
    for (const timer of timers) clearTimeout(timer);
    timers.clear();
    waiting = [];
    head = 0;
    return lost;
  }

  return {
    name,
    get length() {
      return waiting.length - head;
    },
    deadLetters,
    push,
    putBack(messages) {
      waiting = [...messages, ...waiting.slice(head)];
      head = 0;
      pump();
    },
    pushLater(message, delayMs) {
      const timer = setTimeout(() => {
        timers.delete(timer);
        push(message);
      }, delayMs);
      timers.add(timer);
    },
    bury(letter) {
      deadLetters.push(letter);
      if (deadLetters.length > MOST_DEAD_LETTERS) deadLetters.shift();
    },
    exhume: () => deadLetters.splice(0),
    connect(consumer) {
      consumers = [...consumers, consumer];
      pump();
      return () => {
        consumers = consumers.filter((one) => one !== consumer);
      };
    },
    pump,
    close,
    drop() {
      for (const { onFirstAttempt } of waiting.slice(head)) onFirstAttempt?.();
      close();
    },
  };
}
