import type { DeadLetterReason, Received } from "../consuming/handling.ts";
import type { EventEnvelope } from "../envelope.ts";

/** A message in a queue's memory. */
export interface QueuedMessage extends Received {
  /** Who waits for the first attempt, and keeps the event until then; undefined when nobody does. */
  readonly sender: Sender | undefined;
}

export interface Sender {
  /** The first attempt has ended. */
  settle(): void;
  /** There is nobody to attempt it. The message is no longer in the queue. */
  giveUp(): void;
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
  readonly hasConsumer: boolean;
  readonly deadLetters: readonly InProcessDeadLetter[];
  push(message: QueuedMessage): void;
  pushLater(message: QueuedMessage, delayMs: number): void;
  bury(letter: InProcessDeadLetter): void;
  /** Takes all dead letters out. */
  exhume(): InProcessDeadLetter[];
  /** @returns how to take it away again, with what it has not begun: that comes before all else */
  connect(consumer: QueueConsumer): (unbegun: readonly QueuedMessage[]) => void;
  /** A consumer has room again. */
  pump(): void;
  /** Ends its timers; answers how many messages are lost with it: those that nobody keeps. */
  close(): number;
}

/** More are dropped, oldest first: this memory is the process's. */
const MOST_DEAD_LETTERS = 1_000;

export function createQueue(name: string): InProcessQueue {
  let waiting: QueuedMessage[] = [];
  let head = 0;
  let closed = false;
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

  /** What somebody keeps is not needed here while nobody consumes. */
  function returnToSenders(): void {
    const kept = waiting.slice(head);
    waiting = kept.filter(({ sender }) => sender === undefined);
    head = 0;
    for (const { sender } of kept) sender?.giveUp();
  }

  return {
    name,
    get length() {
      return waiting.length - head;
    },
    get hasConsumer() {
      return consumers.length > 0;
    },
    deadLetters,
    push,
    pushLater(message, delayMs) {
      if (closed) return;
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
      return (unbegun) => {
        consumers = consumers.filter((one) => one !== consumer);
        waiting = [...unbegun, ...waiting.slice(head)];
        head = 0;
        if (consumers.length === 0) returnToSenders();
        pump();
      };
    },
    pump,
    close() {
      closed = true;
      returnToSenders();
      const lost = waiting.length + timers.size;
      for (const timer of timers) clearTimeout(timer);
      timers.clear();
      waiting = [];
      return lost;
    },
  };
}
