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
  /** `batchSize` of the consumer's guard, which may change. */
  readonly guard: { readonly batchSize: number };
  /** Messages that are handled while nothing else is. */
  readonly alone?: {
    includes(message: M): boolean;
    /** Called before each attempt. A disposition says that the message is not to be handled. */
    begin(message: M): Promise<Disposition | undefined>;
    /** Called after each attempt, whatever came of it. */
    end(message: M): Promise<void>;
  };
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

/**
 * While messages are handled, fewer than a batch wait for so long that others can join them: a batch costs a transaction,
 * whatever its size.
 */
const GATHER_MS = 5;

export function createPipeline<M extends Received>(options: PipelineOptions<M>): Pipeline<M> {
  const { handling, decide, settle, concurrency, guard, alone, recover, keepsDeadLetters, log } = options;
  const schedule = createKeyedSchedule<M>(alone?.includes);
  const counts = { handled: 0, duplicates: 0, retried: 0, postponed: 0, deadLettered: 0, dropped: 0, ignored: 0 };
  const idle = Promise.withResolvers<readonly M[]>();
  const settling = new Set<Promise<void>>();
  /** Messages that could not be handled before the end. */
  const unhandled: M[] = [];
  const draining = new AbortController();
  let running = 0;
  let runsAlone = false;
  let inHand = 0;
  let gathering: NodeJS.Timeout | undefined;
  let isTurnEndAwaited = false;

  function fill(hasGathered = false): void {
    while (running < concurrency && !draining.signal.aborted && !runsAlone) {
      if (schedule.nextIsAlone && running > 0) return;
      if (running > 0 && schedule.size < guard.batchSize && !hasGathered) {
        if (schedule.size > 0) gathering ??= setTimeout(endGathering, GATHER_MS);
        return;
      }
      const taken = schedule.take(guard.batchSize);
      if (taken.items.length === 0) return;
      void begin(taken);
    }
  }

  function endGathering(): void {
    gathering = undefined;
    fill(true);
  }

  function endTurn(): void {
    isTurnEndAwaited = false;
    fill();
  }

  async function begin(taken: Taken<M>): Promise<void> {
    clearTimeout(gathering);
    gathering = undefined;
    running++;
    runsAlone = taken.alone;
    inHand += taken.items.length;
    try {
      await run(taken);
    } finally {
      running--;
      runsAlone = false;
      inHand -= taken.items.length;
      schedule.release(taken);
      finishDrain();
      fill();
      options.onRoom?.();
    }
  }

  function finishDrain(): void {
    if (draining.signal.aborted && running === 0 && settling.size === 0) idle.resolve(unhandled);
  }

  async function run(taken: Taken<M>): Promise<void> {
    const [only] = taken.alone ? taken.items : [];
    /** Made at the first outage: most messages see none. */
    let backoff: Backoff | undefined;
    let messages = taken.items;
    for (;;) {
      const verdict = only && (await alone?.begin(only));
      if (only !== undefined && verdict !== undefined) {
        finish(only, verdict);
        return;
      }
      const results = await handling(messages);
      if (only !== undefined) await alone?.end(only);
      messages = messages.filter((message, index) => !finish(message, decide(message, results[index] ?? NO_RESULT)));
      if (messages.length === 0) return;
      backoff ??= createBackoff({ initialMs: 50, maxMs: 5_000 });
      const goesOn = (await sleep(backoff.next(), draining.signal)) && (await recover());
      if (goesOn) continue;
      if (draining.signal.aborted) unhandled.push(...messages);
      return;
    }
  }

  /** @returns false for a message that has to wait */
  function finish(message: M, disposition: Disposition): boolean {
    log(message, disposition);
    if (disposition.kind === "give-back") return false;
    count(disposition);
    const work = settle(message, disposition);
    if (work !== undefined) {
      settling.add(work);
      void work.finally(() => {
        settling.delete(work);
        finishDrain();
      });
    }
    return true;
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
      if (running > 0 || guard.batchSize === 1) {
        fill();
      } else if (!isTurnEndAwaited) {
        // The first batch has all that was received together.
        isTurnEndAwaited = true;
        setImmediate(endTurn);
      }
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
