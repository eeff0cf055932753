import type { Logger } from "#shared/logging";
import { createBackoff, sleep } from "#shared/timing";
import { createAvailabilityLog } from "../resolving/availability-log.ts";
import { REGISTRY_BACKOFF } from "../resolving/following-resolver.ts";
import type { Listing, Registration, RegistrationState } from "./registration.ts";

export interface KeepRegisteredOptions {
  readonly listing: Listing;
  /** `etcd:///book-service`, for logs. */
  readonly name: string;
  readonly advertise: string;
  readonly ttlMs: number;
  readonly logger: Pick<Logger, "debug" | "info" | "warn">;
  /** In [0, 1). */
  readonly random: () => number;
}

const WITHDRAW_MS = 3_000;

/** Registers, renews at a third of the ttl, and registers again whenever the registry has forgotten. */
export function keepRegistered(options: KeepRegisteredOptions): Registration {
  const { listing, name, advertise, ttlMs, logger, random } = options;
  const about = { address: name, advertise };
  const availability = createAvailabilityLog(name, `${advertise} stays registered until its ttl is over`, logger);
  const stopping = new AbortController();
  const renewMs = ttlMs / 3;
  // Within the ttl there is time for more than one try.
  const backoff = createBackoff({ ...REGISTRY_BACKOFF, maxMs: renewMs, random });
  let state: RegistrationState = "withdrawn";
  let wasTried = false;
  let isListed = false;
  let running = Promise.resolve();
  let withdrawing: Promise<void> | undefined;

  async function keep(): Promise<void> {
    const { signal } = stopping;
    while (!signal.aborted) {
      let pauseMs = renewMs;
      try {
        if (!isListed || !(await listing.renew(signal))) await register(signal);
        state = "registered";
        availability.answered();
        backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        state = "registering";
        availability.failed(error instanceof Error ? error : new Error(String(error)));
        pauseMs = backoff.next();
      }
      await sleep(pauseMs, signal, { keepsAlive: false });
    }
  }

  async function register(signal: AbortSignal): Promise<void> {
    state = "registering";
    const isAgain = isListed;
    isListed = false;
    wasTried = true;
    await listing.register(signal);
    isListed = true;
    logger.info(about, `${advertise} is registered at ${name}${isAgain ? " again: it was forgotten there" : ""}`);
  }

  async function withdraw(signal: AbortSignal | undefined): Promise<void> {
    stopping.abort(new Error("stopped"));
    await running;
    state = "withdrawn";
    if (!wasTried) return;
    const bound = new AbortController();
    const end = () => bound.abort(signal?.reason);
    const timer = setTimeout(() => bound.abort(new Error(`not within ${WITHDRAW_MS} ms`)), WITHDRAW_MS);
    timer.unref();
    signal?.addEventListener("abort", end);
    if (signal?.aborted) end();
    try {
      await listing.withdraw(bound.signal);
      logger.info(about, `${advertise} is withdrawn from ${name}`);
    } catch (err) {
      logger.warn({ err, ...about }, `${advertise} could not be withdrawn from ${name}; it lapses with its ttl`);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
    }
  }

  return {
    start() {
      if (stopping.signal.aborted || state !== "withdrawn") return;
      state = "registering";
      running = keep();
    },
    stop(signal) {
      withdrawing ??= withdraw(signal);
      return withdrawing;
    },
    state: () => state,
  };
}
