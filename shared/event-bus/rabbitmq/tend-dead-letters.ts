import { sleep } from "#shared/timing";
import { type PutBackOptions, putBackDeadLetters } from "./put-back.ts";

export interface TendDeadLettersOptions extends Omit<PutBackOptions, "knownCount"> {
  /** Time between two looks, in milliseconds. 0: 30 s. */
  readonly intervalMs: number;
  /** Number of dead letters that this consumer has made since its start. */
  readonly ownCount: () => number;
  /** Called with the number of messages that are back in the work queue. */
  readonly onPutBack: (count: number) => void;
  /** Resolves at the end of the consumer's channel. */
  readonly lost: Promise<void>;
}

/** A look has the dead letters in hand for a moment, and other readers do not see them: not right at the start. */
const FIRST_LOOK_MS = 2_000;
const DEFAULT_INTERVAL_MS = 30_000;

/** Puts dead letters of the broker back into the work queue, until the consumer's channel is lost. Never rejects. */
export async function tendDeadLetters(options: TendDeadLettersOptions): Promise<void> {
  const { queue, intervalMs, ownCount, onPutBack, lost, log } = options;
  const ended = new AbortController();
  void lost.then(() => ended.abort());
  let knownCount = 0;
  /** Dead letters of this consumer at the last look. */
  let known = ownCount();
  let waitMs = Math.min(intervalMs, FIRST_LOOK_MS) || DEFAULT_INTERVAL_MS;
  while (await sleep(waitMs, ended.signal, { keepsAlive: false })) {
    waitMs = intervalMs || DEFAULT_INTERVAL_MS;
    try {
      const own = ownCount();
      const { count, putBack } = await putBackDeadLetters({ ...options, knownCount: knownCount + own - known });
      [knownCount, known] = [count, own];
      if (putBack === 0) continue;
      onPutBack(putBack);
      const fields = { queue, put_back: putBack };
      log.warn("put back", fields, "dead letters of the broker on which no handler failed are back in the queue");
    } catch (err) {
      if (!ended.signal.aborted) log.warn("dead letters", { queue, err }, "dead letters cannot be looked at yet");
    }
  }
}
