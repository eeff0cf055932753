import type { ComponentReadiness } from "#shared/lifecycle";
import { createLogThrottle, type Logger } from "#shared/logging";
import { createBackoff, sleep } from "#shared/timing";
import { databaseUnavailable, inOneLine, isOutage, MigrationWaiting } from "./errors.ts";

/** Brings the database up, watches it, and tells whether it can be used. */
export interface Availability {
  /** Starts in the background. Later calls have no effect. */
  start(): void;
  /** Resolves when the database can be used; rejects with the signal's reason, or when the availability is stopped. */
  ready(signal?: AbortSignal): Promise<void>;
  /** @throws DatabaseUnavailableError unless the database can be used */
  assertReady(): void;
  /** Probes at once, because a connection failed. */
  suspect(): void;
  /** Runs `prepare` again, because it has more to check. */
  prepareAgain(): void;
  /** Ends the watch and the work that it has begun. */
  stop(): Promise<void>;
}

export interface AvailabilityOptions {
  /** Called before the first use, again and again until it succeeds. */
  readonly prepare: (signal: AbortSignal) => Promise<void>;
  /** Called at the interval after that: rejects when the database is away; false proves nothing. */
  readonly probe: () => Promise<boolean>;
  readonly probeIntervalMs: number;
  readonly component: ComponentReadiness;
  readonly logger: Logger;
}

export function createAvailability(options: AvailabilityOptions): Availability {
  const { prepare, probe, component, logger } = options;
  const stopping = new AbortController();
  const throttled = createLogThrottle(logger);
  const waiting = new Set<() => void>();
  const outageBackoff = createBackoff({ initialMs: 100, maxMs: 5_000 });
  // Each attempt holds up the running version for up to the migration's lock timeout: they become rare.
  const lockBackoff = createBackoff({ initialMs: 1_000, maxMs: 15_000 });
  let usable = false;
  let prepared = false;
  /** Why the database cannot be used. */
  let trouble: unknown = new Error("not started");
  let running: Promise<void> | undefined;
  let pausing: AbortController | undefined;

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      const isPreparing = !prepared;
      try {
        if (isPreparing) {
          prepared = true;
          await prepare(stopping.signal);
          up();
        } else if (await probe()) up();
        outageBackoff.reset();
        lockBackoff.reset();
        if (prepared) await pause(options.probeIntervalMs);
      } catch (error) {
        if (stopping.signal.aborted) return;
        if (isPreparing) prepared = false;
        const backoff = error instanceof MigrationWaiting && error.holdsUpOthers ? lockBackoff : outageBackoff;
        down(error);
        await pause(backoff.next());
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
    const isNews = usable || reason !== describe(trouble);
    usable = false;
    trouble = error;
    component.notReady(reason);
    if (error instanceof MigrationWaiting) {
      const level = error.holdsUpOthers ? "warn" : "info";
      throttled[level](level, { reason }, "database migration waits");
    } else if (isNews && !isOutage(error)) {
      // It does not pass by itself, a faulty migration for example.
      logger.error({ err: error }, "database cannot be used");
    } else if (isNews) logger.warn({ err: error }, "database away, retrying");
  }

  async function pause(ms: number): Promise<void> {
    if (stopping.signal.aborted) return;
    pausing = new AbortController();
    await sleep(ms, pausing.signal);
    pausing = undefined;
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
    suspect() {
      // A database that is away is looked for with growing pauses anyway.
      if (usable) pausing?.abort();
    },
    prepareAgain() {
      prepared = false;
      pausing?.abort();
    },
    async stop() {
      if (stopping.signal.aborted) return;
      usable = false;
      component.notReady("closed");
      stopping.abort();
      pausing?.abort();
      await running;
      throttled.flush();
    },
  };
}

function closed(): Error {
  return databaseUnavailable("the database is closed");
}

/** The cause of an outage says most: which host, which refusal. */
function describe(error: unknown): string {
  return isOutage(error) && error.cause !== undefined ? inOneLine(error.cause) : inOneLine(error);
}
