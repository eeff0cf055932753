import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "#shared/logging";
import type { ConsumerCounts } from "../bus.ts";
import type { Handling, Outcome, Received } from "./handling.ts";
import { createKeyedSchedule, type Taken } from "./keyed-schedule.ts";
import { createOutcomeLog } from "./outcome-log.ts";

/**
 * What a bus does with a message once it is known what became of it. Must not reject. Others are handled meanwhile: one
 * that cannot be put aside for now is in nobody's way.
 */
export type Settle<M> = (message: M, outcome: Outcome) => Promise<void> | void;

/** Between a queue and its handlers: so many at once, those of one key one after the other. */
export interface Pipeline<M> {
  push(message: M): void;
  /**
   * Takes no more. What had not begun is dropped, and answered; `idle` resolves when what runs has been settled, with
   * what could not be.
   */
  drain(): { readonly dropped: readonly M[]; readonly idle: Promise<readonly M[]> };
  /** Drops what has not begun, and goes on. */
  clear(): readonly M[];
  /** Messages in memory. */
  readonly size: number;
  readonly counts: ConsumerCounts;
}

export interface PipelineOptions<M> {
  readonly queue: string;
  readonly handling: Handling;
  readonly concurrency: number;
  readonly batchSize: number;
  readonly settle: Settle<M>;
  /** Whether what has failed for good is kept, or dropped. */
  readonly keepsDeadLetters: boolean;
  /** Called when there are fewer messages in memory than before. */
  readonly onRoom?: () => void;
  readonly logger: Logger;
}

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5_000;

export function createPipeline<M extends Received>(options: PipelineOptions<M>): Pipeline<M> {
  const { handling, concurrency, batchSize, settle, keepsDeadLetters } = options;
  const schedule = createKeyedSchedule<M>();
  const log = createOutcomeLog(options.queue, options.logger, keepsDeadLetters);
  const closing = new AbortController();
  const counts = { handled: 0, duplicates: 0, retried: 0, deadLettered: 0, dropped: 0, unknown: 0 };
  const idle = Promise.withResolvers<readonly M[]>();
  const settling = new Set<Promise<void>>();
  /** What the guard could not handle before the end. */
  const unhandled: M[] = [];
  let running = 0;
  let inHand = 0;

  function fill(): void {
    while (running < concurrency && !closing.signal.aborted) {
      const taken = schedule.take(batchSize);
      if (taken.items.length === 0) return;
      running++;
      inHand += taken.items.length;
      void run(taken).finally(() => {
        running--;
        inHand -= taken.items.length;
        schedule.release(taken);
        rest();
        fill();
        options.onRoom?.();
      });
    }
  }

  function rest(): void {
    if (closing.signal.aborted && running === 0 && settling.size === 0) idle.resolve(unhandled);
  }

  function begin(message: M, outcome: Outcome): void {
    const work = settle(message, outcome);
    if (work === undefined) return;
    settling.add(work);
    void work.finally(() => {
      settling.delete(work);
      rest();
    });
  }

  async function run({ items }: Taken<M>): Promise<void> {
    let messages: readonly M[] = items;
    for (let failures = 0; messages.length > 0; failures++) {
      const outcomes = await handling(messages);
      const again: M[] = [];
      for (const [index, message] of messages.entries()) {
        const outcome = outcomes[index];
        if (outcome === undefined || outcome.kind === "unavailable") {
          again.push(message);
          log.unavailable(outcome?.error);
        } else {
          count(outcome);
          log.settled(message, outcome);
          begin(message, outcome);
        }
      }
      if (again.length > 0 && !(await pause(failures))) {
        unhandled.push(...again);
        return;
      }
      messages = again;
    }
  }

  async function pause(failures: number): Promise<boolean> {
    const ms = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(failures, 10), LONGEST_PAUSE_MS);
    await delay(ms, undefined, { signal: closing.signal }).catch(() => {});
    return !closing.signal.aborted;
  }

  function count(outcome: Outcome): void {
    if (outcome.kind === "handled") counts.handled++;
    else if (outcome.kind === "duplicate") counts.duplicates++;
    else if (outcome.kind === "unknown") counts.unknown++;
    else if (outcome.kind === "retry") counts.retried++;
    else if (outcome.kind === "dead" && keepsDeadLetters) counts.deadLettered++;
    else if (outcome.kind === "dead") counts.dropped++;
  }

  return {
    push(message) {
      schedule.push(message.envelope.key, message);
      fill();
    },
    drain() {
      closing.abort();
      rest();
      return { dropped: schedule.clear(), idle: idle.promise };
    },
    clear: () => schedule.clear(),
    get size() {
      return schedule.size + inHand;
    },
    counts,
  };
}
