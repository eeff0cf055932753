import { isatty } from "node:tty";
import { pino } from "pino";
import type { LogDestination } from "./destination.ts";

export const STDOUT = 1;

/** Size of the buffer: one system call for each line would cost more than the line itself. */
const BUFFER_LENGTH = 32 * 1024;
/** Maximum time that a line is buffered. A process that is killed (SIGKILL) loses at most the lines of this time. */
const FLUSH_INTERVAL_MS = 50;
/** Number of the level `warn` in pino. */
const WARN = 40;

let shared: LogDestination | undefined;

/**
 * Returns the process's buffered stdout. The buffer is written when it is full, after some milliseconds, with a line at
 * `warn` or above, and when the process exits by itself. On a terminal each line is written at once. All loggers share
 * one buffer, so that their lines stay in order.
 */
export function stdout(): LogDestination {
  shared ??= isatty(STDOUT) ? immediateStdout() : bufferedStdout();
  return shared;
}

/** Returns a destination that writes each line before `write` returns. */
export function immediateStdout(): LogDestination {
  const stream = pino.destination({ dest: STDOUT, sync: true });
  return {
    write: (line) => {
      stream.write(line);
    },
    flush: (done) => {
      stream.flushSync();
      done?.();
    },
  };
}

function bufferedStdout(): LogDestination {
  const stream = immediateStdout();
  let lines = "";
  let timer: NodeJS.Timeout | undefined;

  function writeOut(): void {
    clearTimeout(timer);
    timer = undefined;
    const text = lines;
    lines = "";
    if (text !== "") stream.write(text);
  }
  function flush(done?: () => void): void {
    writeOut();
    stream.flush?.(done);
  }
  process.on("exit", () => flush());

  return {
    // Makes pino set the level of each line.
    [pino.symbols.needsMetadataGsym]: true,
    lastLevel: 0,
    write(line: string) {
      lines += line;
      if (lines.length >= BUFFER_LENGTH || this.lastLevel >= WARN) writeOut();
      else timer ??= setTimeout(writeOut, FLUSH_INTERVAL_MS).unref();
    },
    flush,
  } as LogDestination & { lastLevel: number };
}
