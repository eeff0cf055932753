import { stat } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";

export interface WatchConfigOptions<Config> {
  /** Where the configuration stands: see `configFile`. Links are followed. */
  readonly file: string;
  /** Between two looks at the file. Default 1 s. */
  readonly intervalMs?: number;
  /** Reads and validates the whole file, as at the start: `() => loadConfig({ … })`. */
  readonly load: () => Config;
  /** The configuration in force. Default: what `load` gives when the watch begins. */
  readonly current?: Config;
  /** There is another configuration, a valid one. What it throws goes to `onError`. */
  readonly onChange: (config: Config) => void;
  /** The file has a fault, and the old configuration stays in force. Called once for each faulty version of it. */
  readonly onError: (error: unknown) => void;
}

/**
 * Hands on each valid configuration that a file comes to hold. The file is looked at rather than listened to: no events
 * of the file system come for every kind of mount, nor when Kubernetes mounts another version by swapping a link.
 * Never throws, and does not keep the process alive.
 */
export function watchConfig<Config>(options: WatchConfigOptions<Config>): { stop(): void } {
  const { file, intervalMs = 1_000, load, onChange } = options;
  let current = options.current ?? loadOrNothing(load);
  let seen: string | undefined;
  let isSettled = false;
  let reported: string | undefined;
  let isStopped = false;
  let timer: NodeJS.Timeout | undefined;

  function report(error: unknown): void {
    try {
      options.onError(error);
    } catch (failure) {
      process.emitWarning(failure instanceof Error ? failure : String(failure));
    }
  }

  function reload(version: string): void {
    let config: Config;
    try {
      config = load();
    } catch (error) {
      if (reported !== version) report(error);
      reported = version;
      return;
    }
    reported = undefined;
    if (isDeepStrictEqual(config, current)) return;
    current = config;
    try {
      onChange(config);
    } catch (error) {
      report(error);
    }
  }

  async function look(): Promise<void> {
    // Before it is read: what is written after that makes another version.
    const version = await versionOf(file);
    if (isStopped) return;
    if (version !== seen || !isSettled) {
      // A file that is written twice within the grain of its time looks the same. A second look at it is late enough.
      isSettled = version === seen;
      seen = version;
      reload(version);
    }
    // The callbacks may have stopped it.
    if (!isStopped) timer = setTimeout(() => void look(), intervalMs).unref();
  }

  void look();
  return {
    stop() {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}

/** A fault at this time is found again, and told, at the first look. */
function loadOrNothing<Config>(load: () => Config): Config | undefined {
  try {
    return load();
  } catch {
    return undefined;
  }
}

/** Differs when the file, or the file that a link leads to, is another one or has been written. */
async function versionOf(file: string): Promise<string> {
  try {
    const { mtimeNs, size, ino, dev } = await stat(file, { bigint: true });
    return [mtimeNs, size, ino, dev].join(" ");
  } catch (error) {
    // `load` says what that means.
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
}
