import type { ConnectError } from "@connectrpc/connect";
import { DomainError, toConnectError } from "#shared/errors";
import type { Logger } from "#shared/logging";
import type { ServerConfig } from "../config.ts";
import { createEventLoopDelay } from "./event-loop-delay.ts";
import { createShedLog } from "./shed-log.ts";

/** Decides which calls come in. */
export interface Admission {
  /**
   * Counts a call in.
   *
   * @returns how to count it out again; calling it twice is calling it once
   * @throws ConnectError UNAVAILABLE, OVERLOADED when the server has too much to do, with `grpc-retry-pushback-ms`
   */
  enter(): () => void;
  /** Begins to watch the event loop, if there is a limit for it. */
  start(): void;
  stop(): void;
}

export interface AdmissionOptions {
  readonly config: Pick<ServerConfig, "name" | "maxConcurrentCalls" | "maxEventLoopDelayMs" | "shedPushbackMs">;
  readonly logger: Pick<Logger, "warn">;
  /** How late the event loop runs, in milliseconds. Default: as measured. */
  readonly eventLoopDelayMs?: (() => number) | undefined;
  /** From 0 up to 1. Default `Math.random`. */
  readonly random?: () => number;
}

/** When to send the call again, in milliseconds (gRFC A6): retries wait that long, whatever their own backoff. */
export const PUSHBACK_HEADER = "grpc-retry-pushback-ms";

/** Callers that were refused together do not come back together. */
const JITTER = 0.2;

/** Undefined when the configuration sets no limit. */
export function createAdmission(options: AdmissionOptions): Admission | undefined {
  const { config, logger, random = Math.random } = options;
  const { name, maxConcurrentCalls = Number.POSITIVE_INFINITY, maxEventLoopDelayMs, shedPushbackMs } = config;
  const watchesLoop = maxEventLoopDelayMs > 0;
  if (maxConcurrentCalls === Number.POSITIVE_INFINITY && !watchesLoop) return undefined;
  const measured = createEventLoopDelay();
  const { eventLoopDelayMs = measured.delayMs } = options;
  const shedLog = createShedLog(logger);
  let running = 0;

  /** The limit that is overrun. */
  function overrun(): string | undefined {
    if (running >= maxConcurrentCalls) return "max_concurrent_calls";
    if (watchesLoop && eventLoopDelayMs() > maxEventLoopDelayMs) return "max_event_loop_delay";
    return undefined;
  }

  function overloaded(): ConnectError {
    const error = toConnectError(new DomainError("unavailable", "OVERLOADED", `${name} has too much to do`), name);
    const pushbackMs = shedPushbackMs * (1 - JITTER + 2 * JITTER * random());
    error.metadata.set(PUSHBACK_HEADER, String(Math.round(pushbackMs)));
    return error;
  }

  return {
    enter() {
      const limit = overrun();
      if (limit !== undefined) {
        shedLog.add(limit);
        throw overloaded();
      }
      running++;
      let isIn = true;
      return () => {
        if (isIn) running--;
        isIn = false;
      };
    },
    start() {
      if (watchesLoop && options.eventLoopDelayMs === undefined) measured.start();
    },
    stop() {
      measured.stop();
      shedLog.stop();
    },
  };
}
