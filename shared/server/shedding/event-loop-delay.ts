/** How late the event loop runs, by a timer that looks now and then: asking costs nothing. */
export interface EventLoopDelay {
  /**
   * By how many milliseconds each of the last looks was late at the least. One long pause (a garbage collection, a
   * start, a process that was suspended) is over when it shows, and is no reason to refuse anything: hence the least.
   */
  delayMs(): number;
  /** Begins to look. Holds no process open. */
  start(): void;
  stop(): void;
}

export interface EventLoopDelayOptions {
  /** Milliseconds. Default `performance.now`. */
  readonly now?: () => number;
}

const LOOK_INTERVAL_MS = 50;
/** How many looks in a row count. */
const LOOKS = 3;

export function createEventLoopDelay({ now = () => performance.now() }: EventLoopDelayOptions = {}): EventLoopDelay {
  let timer: NodeJS.Timeout | undefined;
  let dueMs = 0;
  let latenesses: readonly number[] = [];
  let leastMs = 0;

  function schedule(): void {
    dueMs = now() + LOOK_INTERVAL_MS;
    timer = setTimeout(look, LOOK_INTERVAL_MS).unref();
  }

  function look(): void {
    latenesses = [...latenesses, Math.max(0, now() - dueMs)].slice(-LOOKS);
    leastMs = latenesses.length < LOOKS ? 0 : Math.min(...latenesses);
    schedule();
  }

  return {
    delayMs: () => leastMs,
    start() {
      if (timer === undefined) schedule();
    },
    stop() {
      clearTimeout(timer);
      timer = undefined;
      latenesses = [];
      leastMs = 0;
    },
  };
}
