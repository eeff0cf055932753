import { isatty } from "node:tty";
import { pino } from "pino";
import type { LogDestination } from "./destination.ts";

export const STDOUT = 1;

/** A system call for each line would cost more than the line. */
const BUFFER_BYTES = 8 * 1024;
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
  const stream = pino.destination({ dest: STDOUT, sync: true, minLength: BUFFER_BYTES });
  let timer: NodeJS.Timeout | undefined;

  /** Not `flushSync`, which waits for the disk (fsync) where stdout is a file. */
  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    stream.flush();
  }
  process.on("exit", () => stream.flushSync());

  return {
    // So that pino says of what level a line is.
    [pino.symbols.needsMetadataGsym]: true,
    lastLevel: 0,
    write(line: string) {
      stream.write(line);
      if (this.lastLevel >= WARN) flush();
      else timer ??= setTimeout(flush, FLUSH_INTERVAL_MS).unref();
    },
    flush(done: (() => void) | undefined) {
      clearTimeout(timer);
      timer = undefined;
      stream.flushSync();
      done?.();
    },
  } as LogDestination & { lastLevel: number };
}
