import { type Logger as PinoLogger, pino } from "pino";
import { type CallContext, currentCall } from "#shared/call-context";
import { type LogDestination, openDestination } from "./destination.ts";
import { isoTime } from "./iso-time.ts";
import type { LogConfig } from "./log-section.ts";
import { redactLine } from "./redact.ts";
import { serializeError } from "./serialize-error.ts";

/** A pino logger. `flush()` has written everything when it returns. */
export type Logger = PinoLogger;

export interface LoggerOptions {
  /** Value of the field `service` on each line. */
  readonly name: string;
  readonly config: LogConfig;
  /** Default: stdout, buffered for some milliseconds. */
  readonly destination?: LogDestination;
}

/**
 * Creates the logger of an app. Each line has level, ISO time and service, and inside a call its `trace_id` and
 * `request_id`. Errors are written with their causes. Secrets are redacted (see redact.ts).
 *
 * @throws Error when the format is `pretty` and pino-pretty is not installed
 */
export function createLogger({ name, config, destination }: LoggerOptions): Logger {
  return pino(
    {
      level: config.level,
      base: { service: name },
      timestamp: () => `,"time":"${isoTime()}"`,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: serializeError, error: serializeError },
      mixin: () => callFields(currentCall()) ?? NO_FIELDS,
      mixinMergeStrategy: (line, fields) => (fields === NO_FIELDS ? line : Object.assign(fields, line)),
      hooks: { streamWrite: redactLine },
    },
    openDestination(config.format, destination),
  );
}

const NO_FIELDS = Object.freeze({});

/**
 * Returns the fields that all lines of a call have, for a line of the call that is written outside of it. Undefined
 * without a call, else a new object each time: the line's own fields are added to it.
 */
export function callFields(call: CallContext | undefined): CallFields | undefined {
  return call === undefined ? undefined : { trace_id: call.trace.traceId, request_id: call.requestId };
}

interface CallFields {
  readonly trace_id: string;
  readonly request_id: string;
}
