import { stat } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";

export interface WatchConfigOptions<Config> {
  /** Path of the configuration: see `configFile`. Links are followed. */
  readonly file: string;
  /** Time between two checks of the file. Default 1,000. */
  readonly intervalMs?: number;
  /** Reads and validates the whole file: `() => loadConfig({ … })`. */
  readonly load: () => Config;
  /** Current configuration. Default: the result of `load` when the watch begins. */
  readonly current?: Config;
  /** Called with each new valid configuration. What it throws is passed to `onError`. */
  readonly onChange: (config: Config) => void;
  /** Called once for each faulty version of the file. The old configuration stays in use. */
  readonly onError: (error: unknown) => void;
}

/**
 * Watches a configuration file by polling. File system events would not do: some kinds of mounts send none, and
 * Kubernetes replaces a version by changing a symbolic link. Never throws. Does not keep the process alive.
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
    // Before the file is read: a later write is another version.
    const version = await versionOf(file);
    if (isStopped) return;
    if (version !== seen || !isSettled) {
      // Two writes within the resolution of the modification time look the same. The next check reads the file again.
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

/** Ignores a fault: the first check finds and reports it again. */
function loadOrNothing<Config>(load: () => Config): Config | undefined {
  try {
    return load();
  } catch {
    return undefined;
  }
}

/** Identifies a version of the file: changes when the file, or the target of the link, is replaced or written. */
async function versionOf(file: string): Promise<string> {
  try {
    const { mtimeNs, size, ino, dev } = await stat(file, { bigint: true });
    return [mtimeNs, size, ino, dev].join(" ");
  } catch (error) {
    // `load` reports the fault.
    return error instanceof Error && "code" in error ? String(error.code) : String(error);
  }
}
