import type { Logger } from "#shared/logging";
import { createBackoff, sleep } from "#shared/timing";
import { createAvailabilityLog } from "./availability-log.ts";
import type { Resolver, ResolverListener } from "./resolver.ts";
import type { Found, Source } from "./source.ts";
import { createSteadySet, type SteadySet } from "./steady-set.ts";

export interface FollowingOptions {
  /** Address that is resolved, for logs. */
  readonly name: string;
  readonly source: Source;
  readonly emptyGraceMs: number;
  readonly minRefreshMs: number;
  readonly logger: Pick<Logger, "debug" | "info" | "warn">;
  readonly random: () => number;
  /** Monotonic clock, in milliseconds. */
  readonly now: () => number;
}

/** Backoff for a registry that has failed: 0.5 s, 0.8 s, 1.3 s and so on, each multiplied by 0.5 to 1.5. */
export const REGISTRY_BACKOFF = { initialMs: 500, multiplier: 1.6, jitter: 0.5 } as const;

/** After serving for this long a registry counts as stable, and its backoff starts anew. */
const STABLE_MS = 10_000;

/** Minimum time between the beginnings of two look-ups, for registries that end each of them at once. */
const SHORTEST_CYCLE_MS = 1_000;

/** Creates a resolver that follows a source, with backoff after failures. */
export function createFollowingResolver(options: FollowingOptions): Resolver {
  const { name, source, emptyGraceMs, minRefreshMs, logger, random, now } = options;
  const availability = createAvailabilityLog(name, "its last endpoints stay", logger);
  const backoff = createBackoff({ ...REGISTRY_BACKOFF, maxMs: 30_000, random });
  let set: SteadySet | undefined;
  let stopped = false;
  /** Ends the current look-up or pause. */
  let step = new AbortController();
  /** True while the current look-up has no result yet, and another one would be useless. */
  let isAsking = false;
  let lookedAt = 0;
  let refreshing: NodeJS.Timeout | undefined;

  /** @returns milliseconds to pause */
  async function look({ found }: SteadySet): Promise<number> {
    const { signal } = step;
    lookedAt = now();
    isAsking = true;
    const foundNow: Found = (endpoints, why) => {
      if (signal.aborted) return;
      isAsking = false;
      availability.answered();
      found(endpoints, why);
    };
    try {
      await source.follow(foundNow, signal);
      backoff.reset();
      return source.pauseMs > 0 ? source.pauseMs : Math.max(0, lookedAt + SHORTEST_CYCLE_MS - now());
    } catch (error) {
      if (signal.aborted) return 0;
      if (!isAsking && now() - lookedAt > STABLE_MS) backoff.reset();
      const failure = error instanceof Error ? error : new Error(String(error));
      availability.failed(failure);
      set?.failed(failure);
      return backoff.next();
    } finally {
      isAsking = false;
    }
  }

  async function follow(steady: SteadySet): Promise<void> {
    while (!stopped) {
      step = new AbortController();
      const pauseMs = await look(steady);
      if (step.signal.aborted) continue;
      await sleep(pauseMs, step.signal, { keepsAlive: false });
    }
  }

  function lookAgain(): void {
    refreshing = undefined;
    if (!isAsking) step.abort();
  }

  return {
    start(listener: ResolverListener) {
      if (stopped || set !== undefined) return;
      set = createSteadySet({
        graceMs: emptyGraceMs,
        listener,
        onHeld: (kept) =>
          logger.warn({ address: name, kept }, `${name} lists no endpoints any more; the last ones stay for a while`),
        onBelieved: () => logger.warn({ address: name }, `${name} still lists no endpoints; there are none`),
      });
      void follow(set);
    },
    refresh() {
      if (stopped || set === undefined || refreshing !== undefined) return;
      refreshing = setTimeout(lookAgain, Math.max(0, lookedAt + minRefreshMs - now()));
      refreshing.unref();
    },
    stop() {
      stopped = true;
      clearTimeout(refreshing);
      set?.close();
      step.abort();
    },
  };
}
