import { type Logger as PinoLogger, pino } from "pino";
import { currentCall } from "#shared/call-context";
import { type LogDestination, openDestination } from "./destination.ts";
import type { LogConfig } from "./log-section.ts";
import { redactLine } from "./redact.ts";
import { serializeError } from "./serialize-error.ts";

/** A pino logger. `flush()` has written everything when it returns. */
export type Logger = PinoLogger;

export interface LoggerOptions {
  /** Who logs: `service` on each line. */
  readonly name: string;
  readonly config: LogConfig;
  /** Default stdout, where lines may wait some milliseconds for others. */
  readonly destination?: LogDestination;
}

/**
 * Makes the logger of an app. Each line has level, ISO time and service, and inside a call its `trace_id` and
 * `request_id`; errors come with their causes; secrets are taken out wherever they stand (see redact.ts).
 *
 * @throws Error when the format is `pretty` and pino-pretty is not installed
 */
export function createLogger({ name, config, destination }: LoggerOptions): Logger {
  return pino(
    {
      level: config.level,
      base: { service: name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError, error: serializeError },
      mixin: callFields,
      hooks: { streamWrite: redactLine },
    },
    openDestination(config.format, destination),
  );
}

/** A new object each time: pino adds the line's own fields to it. */
function callFields(): object {
  const call = currentCall();
  return call === undefined ? {} : { trace_id: call.trace.traceId, request_id: call.requestId };
}
