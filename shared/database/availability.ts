import type { ComponentReadiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { databaseUnavailable, inOneLine, isOutage } from "./errors.ts";

/** Brings the database up, watches it, and knows whether it may be used. */
export interface Availability {
  /** Begins, in the background. Once only, more calls do nothing. */
  start(): void;
  /** Resolves when the database may be used; rejects with the signal's reason, or when it is stopped. */
  ready(signal?: AbortSignal): Promise<void>;
  /** @throws DomainError DATABASE_UNAVAILABLE unless the database may be used */
  assertReady(): void;
  /** Something went wrong with a connection: look at once. */
  suspect(): void;
  /** Ends the watch, and what it is about to do. */
  stop(): Promise<void>;
}

export interface AvailabilityOptions {
  /** Once, before the first use: repeated until it succeeds. */
  readonly prepare: (signal: AbortSignal) => Promise<void>;
  /** Then, at the interval: rejects when the database is away; false tells nothing. */
  readonly probe: () => Promise<boolean>;
  readonly probeIntervalMs: number;
  readonly component: ComponentReadiness;
  readonly logger: Logger;
}

const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;

export function createAvailability(options: AvailabilityOptions): Availability {
  const { prepare, probe, component, logger } = options;
  const stopping = new AbortController();
  const waiting = new Set<() => void>();
  let usable = false;
  /** Why it may not be used. */
  let trouble: unknown = new Error("not started");
  let running: Promise<void> | undefined;
  let wake: (() => void) | undefined;

  async function run(): Promise<void> {
    let prepared = false;
    let failures = 0;
    while (!stopping.signal.aborted) {
      try {
        if (!prepared) {
          await prepare(stopping.signal);
          prepared = true;
          up();
        } else if (await probe()) up();
        failures = 0;
        await pause(options.probeIntervalMs, true);
      } catch (error) {
        if (stopping.signal.aborted) return;
        down(error);
        await pause(retryDelay(failures++), false);
      }
    }
  }

  function up(): void {
    if (usable || stopping.signal.aborted) return;
    usable = true;
    component.ready();
    logger.info("database ready");
    for (const resolve of [...waiting]) resolve();
  }

  function down(error: unknown): void {
    const reason = describe(error);
    const news = usable || reason !== describe(trouble);
    usable = false;
    trouble = error;
    component.notReady(reason);
    // An outage passes and is told once. Anything else, a faulty migration say, waits for somebody to act.
    if (!isOutage(error)) logger.error({ err: error }, "database cannot be used");
    else if (news) logger.warn({ err: error }, "database away, retrying");
  }

  function pause(ms: number, wakeable: boolean): Promise<void> {
    if (stopping.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        stopping.signal.removeEventListener("abort", done);
        wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      stopping.signal.addEventListener("abort", done, { once: true });
      if (wakeable) wake = done;
    });
  }

  return {
    start() {
      if (stopping.signal.aborted) return;
      running ??= run();
    },
    async ready(signal) {
      signal?.throwIfAborted();
      if (usable) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const abort = () => reject(signal?.reason);
      const stop = () => reject(closed());
      if (stopping.signal.aborted) stop();
      waiting.add(resolve);
      signal?.addEventListener("abort", abort);
      stopping.signal.addEventListener("abort", stop);
      try {
        await promise;
      } finally {
        waiting.delete(resolve);
        signal?.removeEventListener("abort", abort);
        stopping.signal.removeEventListener("abort", stop);
      }
    },
    assertReady() {
      if (stopping.signal.aborted) throw closed();
      if (!usable) throw databaseUnavailable("the database is not available", trouble);
    },
    suspect: () => wake?.(),
    async stop() {
      if (stopping.signal.aborted) return;
      usable = false;
      component.notReady("closed");
      stopping.abort();
      await running;
    },
  };
}

function closed(): Error {
  return databaseUnavailable("the database is closed");
}

/** The innermost of what is ours says most: which host, which refusal. */
function describe(error: unknown): string {
  return isOutage(error) && error.cause !== undefined ? inOneLine(error.cause) : inOneLine(error);
}

/** Doubles from 100 ms to 5 s, less up to a fifth, so that replicas do not all come at once. */
function retryDelay(failures: number): number {
  const delay = Math.min(FIRST_RETRY_MS * 2 ** Math.min(failures, 10), LONGEST_RETRY_MS);
  return delay * (1 - Math.random() / 5);
}
