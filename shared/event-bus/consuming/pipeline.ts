import { AsyncLocalStorage } from "node:async_hooks";
import { type Backoff, createBackoff, sleep } from "#shared/timing";
import type { ConsumerCounts } from "../bus.ts";
import type { Decide, Disposition } from "./disposition.ts";
import type { AttemptResult, Received } from "./handling.ts";
import { createKeyedSchedule, type Taken } from "./keyed-schedule.ts";
import type { OutcomeLog } from "./outcome-log.ts";

/**
 * Carries out the disposition of a message. Must not reject. Other messages are handled meanwhile: one that cannot be put
 * aside for now holds up none of them.
 */
export type Settle<M> = (message: M, disposition: Disposition) => Promise<void> | void;

/** Between a queue and its handlers: so many at once, those of one key one after the other. */
export interface Pipeline<M> {
  push(message: M): void;
  /**
   * Takes no more messages. Those that had not begun are `dropped`; `idle` resolves when the running ones are settled, with
   * those that could not be.
   */
  drain(): { readonly dropped: readonly M[]; readonly idle: Promise<readonly M[]> };
  /** Drops the messages that have not begun, and goes on. */
  clear(): readonly M[];
  /** Number of messages in memory. */
  readonly size: number;
  readonly counts: PipelineCounts;
}

export type PipelineCounts = Omit<ConsumerCounts, "givenBack" | "putBack">;

export interface PipelineOptions<M> {
  /** Never rejects: one result for each message. */
  readonly handling: (messages: readonly M[]) => Promise<AttemptResult[]>;
  readonly decide: Decide;
  readonly settle: Settle<M>;
  readonly concurrency: number;
  readonly batchSize: number;
  /** Whether the message is handled while nothing else is. */
  readonly isAlone?: (message: M) => boolean;
  /** Called before a message that is handled alone. A disposition says that it is not to be handled. */
  readonly judge?: (message: M) => Promise<Disposition | undefined>;
  /**
   * Called when messages cannot be handled because of an outage. Resolves to true when they are to be tried again, to false
   * when they are no longer this consumer's.
   */
  readonly recover: () => Promise<boolean>;
  /** Whether dead letters are kept, or dropped. */
  readonly keepsDeadLetters: boolean;
  /** Called when there are fewer messages in memory than before. */
  readonly onRoom?: () => void;
  readonly log: OutcomeLog;
}

export function createPipeline<M extends Received>(options: PipelineOptions<M>): Pipeline<M> {
  const { handling, decide, settle, concurrency, batchSize, recover, keepsDeadLetters, log } = options;
  const schedule = createKeyedSchedule<M>(options.isAlone);
  const counts = { handled: 0, duplicates: 0, retried: 0, postponed: 0, deadLettered: 0, dropped: 0, ignored: 0 };
  const idle = Promise.withResolvers<readonly M[]>();
  const settling = new Set<Promise<void>>();
  /** Messages that could not be handled before the end. */
  const unhandled: M[] = [];
  const draining = new AbortController();
  /** Handlers are no part of the call or the transaction that has published their event in the same process. */
  const outside = AsyncLocalStorage.snapshot();
  let running = 0;
  let runsAlone = false;
  let inHand = 0;

  function fill(): void {
    while (running < concurrency && !draining.signal.aborted && !runsAlone) {
      if (schedule.nextIsAlone && running > 0) return;
      const taken = schedule.take(batchSize);
      if (taken.items.length === 0) return;
      running++;
      runsAlone = taken.alone;
      inHand += taken.items.length;
      void outside(run, taken).finally(() => {
        running--;
        runsAlone = false;
        inHand -= taken.items.length;
        schedule.release(taken);
        finishDrain();
        fill();
        options.onRoom?.();
      });
    }
  }

  function finishDrain(): void {
    if (draining.signal.aborted && running === 0 && settling.size === 0) idle.resolve(unhandled);
  }

  async function run({ items, alone }: Taken<M>): Promise<void> {
    const [first] = items;
    const verdict = alone && first !== undefined ? await options.judge?.(first) : undefined;
    if (verdict !== undefined && first !== undefined) {
      log(first, verdict);
      finish(first, verdict);
      return;
    }
    /** Made at the first outage: most messages see none. */
    let backoff: Backoff | undefined;
    let messages: readonly M[] = items;
    while (messages.length > 0) {
      const results = await handling(messages);
      const waiting: M[] = [];
      for (const [index, message] of messages.entries()) {
        const disposition = decide(message, results[index] ?? NO_RESULT);
        log(message, disposition);
        if (disposition.kind === "give-back") waiting.push(message);
        else finish(message, disposition);
      }
      if (waiting.length > 0) {
        backoff ??= createBackoff({ initialMs: 50, maxMs: 5_000 });
        const goesOn = (await sleep(backoff.next(), draining.signal)) && (await recover());
        if (!goesOn) {
          unhandled.push(...(draining.signal.aborted ? waiting : []));
          return;
        }
      }
      messages = waiting;
    }
  }

  function finish(message: M, disposition: Disposition): void {
    count(disposition);
    const work = settle(message, disposition);
    if (work === undefined) return;
    settling.add(work);
    void work.finally(() => {
      settling.delete(work);
      finishDrain();
    });
  }

  function count(disposition: Disposition): void {
    if (disposition.kind === "acknowledge") counts[disposition.as === "handled" ? "handled" : "duplicates"]++;
    else if (disposition.kind === "ignore") counts.ignored++;
    else if (disposition.kind === "dead-letter") counts[keepsDeadLetters ? "deadLettered" : "dropped"]++;
    else if (disposition.kind === "retry") counts[disposition.costsAttempt ? "retried" : "postponed"]++;
  }

  return {
    push(message) {
      schedule.push(message.envelope.key, message);
      fill();
    },
    drain() {
      draining.abort();
      finishDrain();
      return { dropped: schedule.clear(), idle: idle.promise };
    },
    clear: () => schedule.clear(),
    get size() {
      return schedule.size + inHand;
    },
    counts,
  };
}

const NO_RESULT = { kind: "unavailable", error: new Error("the handling gave no result") } as const;
