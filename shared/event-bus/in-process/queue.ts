import type { DeadLetterReason } from "../consuming/disposition.ts";
import type { Received } from "../consuming/handling.ts";
import type { EventEnvelope } from "../envelope.ts";

/** A message in a queue's memory. */
export interface QueuedMessage extends Received {
  /** The sender that keeps the event until its first attempt has ended; undefined when there is none. */
  readonly sender: Sender | undefined;
}

export interface Sender {
  /** The first attempt has ended. */
  settle(): void;
  /** There is no consumer to attempt it. The message is no longer in the queue. */
  giveUp(): void;
}

export interface InProcessDeadLetter {
  readonly envelope: EventEnvelope;
  readonly attempts: number;
  readonly reason: DeadLetterReason;
  readonly error: string;
}

/** Takes as many messages of a queue as it has room for. */
export interface QueueConsumer {
  readonly room: number;
  take(message: QueuedMessage): void;
}

export interface InProcessQueue {
  readonly name: string;
  /** Number of messages that wait for a consumer, or for their next attempt. */
  readonly length: number;
  readonly hasConsumer: boolean;
  readonly deadLetters: readonly InProcessDeadLetter[];
  push(message: QueuedMessage): void;
  pushLater(message: QueuedMessage, delayMs: number): void;
  bury(letter: InProcessDeadLetter): void;
  /** Takes all dead letters out. */
  exhume(): InProcessDeadLetter[];
  /** @returns disconnects the consumer; the messages that it has not begun go back to the front of the queue */
  connect(consumer: QueueConsumer): (unbegun: readonly QueuedMessage[]) => void;
  /** A consumer has room again. */
  pump(): void;
  /** Stops its timers. Returns the number of messages that are lost with it: those that no sender keeps. */
  close(): number;
}

/** Bounds the memory: when there are more, the oldest are dropped. */
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
      // Round robin over the consumers that have room.
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

  /** Without a consumer, messages that their senders keep are not needed here. */
  function returnToSenders(): void {
    const kept = waiting.slice(head);
    waiting = kept.filter(({ sender }) => sender === undefined);
    head = 0;
    for (const { sender } of kept) sender?.giveUp();
  }

  return {
    name,
    get length() {
      return waiting.length - head + timers.size;
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
      // What is in memory ends with the process.
      timer.unref();
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
