import { isatty } from "node:tty";
import { pino } from "pino";
import type { LogDestination } from "./destination.ts";

export const STDOUT = 1;

/** A system call for each line would cost more than the line. */
const BUFFER_LENGTH = 32 * 1024;
/** How long a line may wait for others. What the process loses when it is killed (SIGKILL) is no older. */
const FLUSH_INTERVAL_MS = 50;
/** pino's number of `warn`. */
const WARN = 40;

let shared: LogDestination | undefined;

/**
 * Lines go out together: when there are enough of them, within some milliseconds, with a line at `warn` or above, and
 * when the process exits, however it does so by itself. On a terminal each goes at once. There is one of it, as there is
 * one stdout: the lines of several loggers stay in order.
 */
export function stdout(): LogDestination {
  shared ??= isatty(STDOUT) ? immediateStdout() : bufferedStdout();
  return shared;
}

/** Each line is written before `write` returns. */
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
    // So that pino says of what level a line is.
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
