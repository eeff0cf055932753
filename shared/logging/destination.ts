import { createRequire } from "node:module";
import { isatty } from "node:tty";
import type { DestinationStream } from "pino";
import type { PrettyOptions, prettyFactory } from "pino-pretty";
import type { LogConfig } from "./log-section.ts";
import { immediateStdout, STDOUT, stdout } from "./stdout.ts";

/** Destination of finished lines, which end with a line feed. */
export interface LogDestination extends DestinationStream {
  /** Called by `logger.flush()`. Everything must be written when it returns. */
  flush?(done?: () => void): void;
}

const PRETTY: PrettyOptions = {
  singleLine: true,
  translateTime: "SYS:HH:MM:ss.l",
  ignore: "service",
  messageFormat: "[{service}] {msg}",
};

/** Opens the destination of a logger: JSON lines unchanged, or formatted by pino-pretty. */
export function openDestination(format: LogConfig["format"], given?: LogDestination): LogDestination {
  const terminal = given === undefined && isatty(STDOUT);
  if (format === "json" || (format === "auto" && !terminal)) return given ?? stdout();
  const target = given ?? immediateStdout();
  const pretty = loadPretty();
  if (pretty === undefined) {
    if (format === "auto") return target;
    throw new Error("log.format is pretty, and the package pino-pretty is not installed; json and auto do without it");
  }
  // Not pino-pretty's stream: it writes asynchronously, and the last lines would be lost on exit.
  const prettify = pretty.prettyFactory({ ...PRETTY, colorize: terminal && pretty.isColorSupported });
  return {
    write: (line) => target.write(prettify(line)),
    flush: (done) => {
      if (target.flush !== undefined) target.flush(done);
      else done?.();
    },
  };
}

interface PinoPretty {
  readonly prettyFactory: typeof prettyFactory;
  readonly isColorSupported: boolean;
}

/** Loads pino-pretty, a development dependency that production installs do not have. */
function loadPretty(): PinoPretty | undefined {
  try {
    return createRequire(import.meta.url)("pino-pretty");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "MODULE_NOT_FOUND") return undefined;
    throw error;
  }
}
