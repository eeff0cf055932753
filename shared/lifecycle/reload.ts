import { isDeepStrictEqual } from "node:util";
import { ConfigError, configFile, watchConfig } from "#shared/config";
import type { Logger } from "#shared/logging";
import { settled } from "#shared/timing";
import { invoke } from "./invoke.ts";

/** Passes a changed configuration to the running app. */
export interface Reload {
  /** Call after the start: passes on a change since the creation, and every later change at once. */
  begin(): void;
  /** Reads the configuration now, and passes it on if it differs from the last one or that one has failed. */
  now(): void;
  /** Ends the watch. */
  end(): void;
}

export interface ReloadOptions<Config> {
  /** Configuration that the app was created with. */
  readonly config: Config;
  /** Loads the configuration. @throws ConfigError */
  readonly load: () => Config;
  readonly reconfigure: (config: Config) => void;
  readonly logger: Pick<Logger, "info" | "error">;
  /** Interval in ms between checks of the configuration file. */
  readonly intervalMs: number;
}

/**
 * Watches the file of a configuration, if it comes from one. An invalid version is logged with every fault and otherwise
 * ignored. An error of `reconfigure` is logged, and the next `now` tries again.
 */
export function createReload<Config>(options: ReloadOptions<Config>): Reload {
  const { config, load, reconfigure, logger, intervalMs } = options;
  /** Configuration that was passed on last, and whether `reconfigure` failed. */
  let told = config;
  let hasFailed = false;
  let waiting: { readonly config: Config } | undefined;
  let state: "starting" | "running" | "ended" = "starting";

  const file = typeof config === "object" && config !== null ? configFile(config) : undefined;
  const watch =
    file === undefined
      ? undefined
      : watchConfig({ file, intervalMs, load, current: config, onChange: offer, onError: refuse });

  function offer(next: Config): void {
    if (state === "starting") waiting = { config: next };
    // A signal and the watch may both report one change.
    if (state === "running" && !isDeepStrictEqual(next, told)) void apply(next);
  }

  /** Never rejects. */
  async function apply(next: Config): Promise<void> {
    told = next;
    const outcome = await settled(invoke(() => reconfigure(next)));
    hasFailed = outcome.kind === "failed";
    if (outcome.kind === "failed") logger.error({ err: outcome.cause }, "the app failed to take on a configuration");
    else logger.info("configuration reloaded");
  }

  function refuse(err: unknown): void {
    if (state === "ended") return;
    const message = "configuration refused: going on with the old one";
    if (err instanceof ConfigError) logger.error({ file: err.file, faults: err.faults }, message);
    else logger.error({ err }, message);
  }

  return {
    begin() {
      if (state !== "starting") return;
      state = "running";
      if (waiting !== undefined) offer(waiting.config);
    },
    now() {
      if (state === "ended") return;
      logger.info("reading the configuration again");
      try {
        const next = load();
        if (state === "running" && hasFailed) void apply(next);
        else offer(next);
      } catch (err) {
        refuse(err);
      }
    },
    end() {
      state = "ended";
      watch?.stop();
    },
  };
}
