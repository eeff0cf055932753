import { type BigIntStats, statSync } from "node:fs";
import { stat } from "node:fs/promises";

/** Tells when files have changed, by looking at them now and then: that works on every file system. */
export interface FileWatch {
  /** Begins to look. Holds no process open. */
  start(): void;
  stop(): void;
}

export interface FileWatchOptions {
  readonly files: readonly string[];
  /** Milliseconds between two looks. 0: never looks. */
  readonly intervalMs: number;
  /** Called once for each change, when two looks in a row have seen the same: files may be in the middle of a write. */
  readonly onChange: () => void;
}

/** Remembers the files as they are now: make it before you read them. Links are followed, so that a swap shows. */
export function createFileWatch({ files, intervalMs, onChange }: FileWatchOptions): FileWatch {
  /** As last told. */
  let known = JSON.stringify(files.map(lookSync));
  /** As last looked at. */
  let seen = known;
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;

  function schedule(): void {
    if (!isStopped) timer = setTimeout(() => void look(), intervalMs).unref();
  }

  async function look(): Promise<void> {
    const now = JSON.stringify(await Promise.all(files.map(lookAt)));
    if (isStopped) return;
    const isSettled = now === seen;
    seen = now;
    if (isSettled && now !== known) {
      known = now;
      onChange();
    }
    schedule();
  }

  return {
    start() {
      if (timer === undefined && intervalMs > 0) schedule();
    },
    stop() {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}

function lookSync(file: string): string {
  try {
    return fingerprint(statSync(file, { bigint: true }));
  } catch (error) {
    return codeOf(error);
  }
}

/** The same, without holding up the event loop where the file system is slow. */
async function lookAt(file: string): Promise<string> {
  try {
    return fingerprint(await stat(file, { bigint: true }));
  } catch (error) {
    return codeOf(error);
  }
}

function fingerprint({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
}

/** A file that is not there is as good as any other state: its reader will say what is wrong. */
function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
