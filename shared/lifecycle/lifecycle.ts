import type { Logger } from "#shared/logging";
import { bounded } from "#shared/timing";
import { invoke } from "./invoke.ts";

/** A resource that an app opens and closes: a database, a server, a consumer. */
export interface LifecyclePart {
  /** Name in logs and errors. */
  readonly name: string;
  /**
   * Opens the part. Resolves when later parts can use it. The signal fires when the start takes too long or the app is
   * stopped; it should then reject. A part without `start` counts as open as soon as it is added.
   */
  readonly start?: (signal: AbortSignal) => Promise<void> | void;
  /** Closes the part. The signal fires when that takes too long: the rest should then be dropped at once. */
  readonly stop?: (signal: AbortSignal) => Promise<void> | void;
  /** Maximum time of `start`. Default 30,000. */
  readonly startTimeoutMs?: number;
  /** Maximum time of `stop`. Default 15,000. */
  readonly stopTimeoutMs?: number;
}

export interface LifecycleOptions {
  readonly logger: Pick<Logger, "debug" | "error">;
}

/** Starts parts in the order in which they were added and stops them in reverse. */
export interface Lifecycle {
  /** Adds a part. @throws Error after `start` or `stop` */
  add(part: LifecyclePart): void;
  /**
   * Starts the parts one after the other. When one fails, overruns or is interrupted by `stop`, the open ones are
   * stopped in reverse, and then this rejects with an Error that names the part and has its error as cause.
   */
  start(): Promise<void>;
  /**
   * Stops every open part in reverse, each within its bound; one that fails or overruns is logged and the next is
   * stopped. Interrupts a start that is under way. Never rejects. Calling again waits for the same stop.
   */
  stop(): Promise<void>;
  /** Maximum time that `stop` takes once started, in ms: the sum over the parts. */
  readonly stopTimeoutMs: number;
}

const DEFAULT_START_TIMEOUT_MS = 30_000;
const DEFAULT_STOP_TIMEOUT_MS = 15_000;

export function createLifecycle({ logger }: LifecycleOptions): Lifecycle {
  const parts: LifecyclePart[] = [];
  const open = new Set<LifecyclePart>();
  const interrupted = new AbortController();
  let starting: Promise<void> | undefined;
  let started = false;
  let stopping: Promise<void> | undefined;

  async function startAll(): Promise<void> {
    for (const part of parts) {
      const failure = interrupted.signal.aborted ? interruption(part) : await startPart(part);
      if (failure === undefined) continue;
      await stopAll();
      throw failure;
    }
    started = true;
  }

  /** Returns the error with which the whole start fails, or undefined when the part is open. */
  async function startPart(part: LifecyclePart): Promise<Error | undefined> {
    if (part.start === undefined) return undefined;
    const overrun = new AbortController();
    const timeoutMs = part.startTimeoutMs ?? DEFAULT_START_TIMEOUT_MS;
    const signal = AbortSignal.any([overrun.signal, interrupted.signal]);
    const work = invoke(() => part.start?.(signal));
    let outcome = await bounded(work, timeoutMs, interrupted.signal);
    // Stopped: a start that obeys its signal ends soon, and its outcome tells whether there is something to close.
    if (outcome.kind === "overran" && interrupted.signal.aborted) outcome = await bounded(work, stopTimeoutMs(part));
    if (outcome.kind === "done") {
      open.add(part);
      return interrupted.signal.aborted ? interruption(part) : undefined;
    }
    if (outcome.kind === "failed") {
      if (interrupted.signal.aborted) return interruption(part, outcome.cause);
      return new Error(`${part.name} failed to start`, { cause: outcome.cause });
    }
    const cause = new DOMException(`not started within ${timeoutMs} ms`, "TimeoutError");
    overrun.abort(cause);
    closeWhenLate(part, work);
    return interrupted.signal.aborted
      ? interruption(part, cause)
      : new Error(`${part.name} failed to start`, { cause });
  }

  /** Stops a part whose start succeeds after it was given up: nothing else would close it. */
  function closeWhenLate(part: LifecyclePart, work: Promise<void>): void {
    work.then(
      () => stopPart(part),
      (err: unknown) => logger.debug({ err, part: part.name }, "an abandoned start has failed"),
    );
  }

  async function stopAll(): Promise<void> {
    for (const part of parts.toReversed()) if (open.delete(part)) await stopPart(part);
  }

  async function stopPart(part: LifecyclePart): Promise<void> {
    if (part.stop === undefined) return;
    const overrun = new AbortController();
    const timeoutMs = stopTimeoutMs(part);
    const work = invoke(() => part.stop?.(overrun.signal));
    const outcome = await bounded(work, timeoutMs);
    if (outcome.kind === "failed") logger.error({ err: outcome.cause, part: part.name }, `${part.name} failed to stop`);
    if (outcome.kind !== "overran") return;
    logger.error({ part: part.name, timeout_ms: timeoutMs }, `${part.name} did not stop in time`);
    overrun.abort(new DOMException(`not stopped within ${timeoutMs} ms`, "TimeoutError"));
    work.catch((err: unknown) => logger.error({ err, part: part.name }, `${part.name} failed to stop`));
  }

  return {
    add(part) {
      if (starting !== undefined || stopping !== undefined) {
        throw new Error(`${part.name} was added after the start or the stop`);
      }
      parts.push(part);
      if (part.start === undefined) open.add(part);
    },
    start() {
      if (stopping !== undefined) return Promise.reject(new Error("already stopped"));
      starting ??= startAll();
      return starting;
    },
    stop() {
      if (!started) interrupted.abort(new DOMException("stopped while starting", "AbortError"));
      // The caller of `start` handles its failure; what was opened is closed in any case.
      stopping ??= (starting ?? Promise.resolve()).catch(() => {}).then(stopAll);
      return stopping;
    },
    get stopTimeoutMs() {
      return parts.reduce((sum, part) => sum + (part.stop === undefined ? 0 : stopTimeoutMs(part)), 0);
    },
  };
}

function stopTimeoutMs(part: LifecyclePart): number {
  return part.stopTimeoutMs ?? DEFAULT_STOP_TIMEOUT_MS;
}

function interruption(part: LifecyclePart, cause?: unknown): Error {
  return new Error(`told to stop before ${part.name} had started`, { cause });
}
