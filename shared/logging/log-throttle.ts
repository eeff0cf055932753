import { AsyncLocalStorage } from "node:async_hooks";
import type { Logger } from "./logger.ts";

export interface LogThrottleOptions {
  /** Minimum time between two lines of one kind. Default 10,000. */
  readonly intervalMs?: number | undefined;
}

/** Writes a line of a kind. `message` and `fields` are as for the logger; `kind` is not written. */
export type ThrottledLog = (kind: string, fields: Readonly<Record<string, unknown>>, message: string) => void;

/** Limits the rate of log lines that a flood of events would cause. */
export interface LogThrottle {
  readonly info: ThrottledLog;
  readonly warn: ThrottledLog;
  readonly error: ThrottledLog;
  /** Writes the lines that are still held back. To be called before the process or the component ends. */
  flush(): void;
}

type Level = "info" | "warn" | "error";

interface Kind {
  readonly timer: NodeJS.Timeout;
  /** The newest line that is held back, and how many there are. */
  held?:
    | { readonly level: Level; readonly fields: object; readonly message: string; readonly count: number }
    | undefined;
}

/** Kinds that are counted apart at a time. Further ones share one line, so that even a flood of kinds is limited. */
const MAX_KINDS = 100;
const OTHER_KINDS = Symbol("other kinds");

/**
 * Creates a throttle for a logger. The first line of a kind is written at once. Those that follow within the interval
 * are held back; at its end one line is written with the newest fields and message and a `count` of the lines that it
 * stands for. Its timers do not keep the process alive.
 */
export function createLogThrottle(logger: Logger, { intervalMs = 10_000 }: LogThrottleOptions = {}): LogThrottle {
  const kinds = new Map<string | symbol, Kind>();
  // A timer inherits the call in which it is started, and a line that stands for many calls must not carry its ids.
  const outsideOfCalls = AsyncLocalStorage.snapshot();

  const writer = (level: Level): ThrottledLog => {
    return (kind, fields, message) => {
      const key = kinds.has(kind) || kinds.size < MAX_KINDS ? kind : OTHER_KINDS;
      const known = kinds.get(key);
      if (known === undefined) {
        logger[level](fields, message);
        startInterval(key);
      } else {
        known.held = { level, fields, message, count: (known.held?.count ?? 0) + 1 };
      }
    };
  };

  function startInterval(key: string | symbol): void {
    const timer = outsideOfCalls(() => setTimeout(endInterval, intervalMs, key));
    timer.unref();
    kinds.set(key, { timer });
  }

  function endInterval(key: string | symbol): void {
    const { held } = kinds.get(key) ?? {};
    kinds.delete(key);
    if (held === undefined) return;
    write(held);
    startInterval(key);
  }

  function write({ level, fields, message, count }: NonNullable<Kind["held"]>): void {
    outsideOfCalls(() => logger[level]({ ...fields, count }, message));
  }

  return {
    info: writer("info"),
    warn: writer("warn"),
    error: writer("error"),
    flush() {
      for (const kind of kinds.values()) {
        if (kind.held !== undefined) write(kind.held);
        kind.held = undefined;
      }
    },
  };
}
