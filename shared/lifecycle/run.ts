import { constants } from "node:os";
import { inspect } from "node:util";
import { ConfigError } from "#shared/config";
import { type Logger, redactLine } from "#shared/logging";
import { bounded, settled } from "#shared/timing";
import { invoke } from "./invoke.ts";
import { createReload, type Reload } from "./reload.ts";

/** The part of Node's `process` that a service needs. Only `main.ts` passes the real one. */
export interface RunProcess {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stderr: { write(text: string): unknown };
  exit(code: number): void;
  on(event: EndingSignal, listener: (signal: EndingSignal) => void): unknown;
  on(event: "SIGHUP", listener: () => void): unknown;
  on(event: CrashEvent, listener: (reason: unknown) => void): unknown;
  off(event: EndingSignal, listener: (signal: EndingSignal) => void): unknown;
  off(event: "SIGHUP", listener: () => void): unknown;
  off(event: CrashEvent, listener: (reason: unknown) => void): unknown;
}

type EndingSignal = "SIGTERM" | "SIGINT";
type CrashEvent = "uncaughtException" | "unhandledRejection";

/** A service that was created and is not started yet. */
export interface App {
  readonly logger: Pick<Logger, "info" | "warn" | "error" | "fatal" | "flush">;
  /** Rejects when the service cannot start, after closing what it had opened. */
  start(): Promise<void>;
  /** Closes everything within a bounded time, also during a start. May be called again. */
  stop(): Promise<void>;
}

/** An app that may apply a changed configuration while it runs. */
export interface ReconfigurableApp<Config> extends App {
  /**
   * Applies another valid configuration as far as it can, and logs which changes need a restart. Called only after the
   * start and before the stop. What it throws is logged.
   */
  reconfigure?(config: Config): void;
}

export interface RunOptions<Config> {
  readonly process: RunProcess;
  /** Loads the configuration. @throws ConfigError */
  readonly load: (env: RunProcess["env"]) => Config;
  /** Creates the app. Everything that has to be waited for belongs in its `start`. */
  readonly create: (config: Config) => ReconfigurableApp<Config>;
  /** Time in ms that a crashed app is given to close. Default 10,000. */
  readonly crashStopTimeoutMs?: number;
  /** Interval in ms between checks of the configuration file, for apps with `reconfigure`. Default 5,000. */
  readonly reloadIntervalMs?: number;
}

/** Exit codes, after sysexits.h and the shell's 128 + signal number. */
const EXIT = { ok: 0, failure: 1, config: 78, signal: 128 } as const;
const SIGNALS: readonly EndingSignal[] = ["SIGTERM", "SIGINT"];
const CRASHES: readonly CrashEvent[] = ["uncaughtException", "unhandledRejection"];
const DEFAULT_CRASH_STOP_TIMEOUT_MS = 10_000;
const DEFAULT_RELOAD_INTERVAL_MS = 5_000;
/** One Ctrl-C can arrive twice: from the terminal and from `node --watch`. */
const ECHO_MS = 500;
const LONGEST_INTERVAL_MS = 2 ** 31 - 1;

/**
 * Runs a service's process: loads the configuration, creates and starts the app, waits for a signal, stops. Resolves after it
 * has called `exit` with: 0 after SIGTERM or SIGINT and a stop, 78 for a bad configuration, 1 when it cannot start, stop or go on, and
 * 128 + n at once for a second signal. Never rejects: a failure is logged, or written to stderr while there is no logger.
 *
 * An app with `reconfigure` gets a valid configuration when the file changes and on SIGHUP; for other apps SIGHUP has its
 * default effect. An invalid one is logged with every fault, and the old one stays in use.
 *
 * @example await run({ process, load: loadUserConfig, create: createUserApp });
 */
export async function run<Config>(options: RunOptions<Config>): Promise<void> {
  const { process, load, create, crashStopTimeoutMs = DEFAULT_CRASH_STOP_TIMEOUT_MS } = options;
  const ending = Promise.withResolvers<"signal" | "crash">();
  const forced = Promise.withResolvers<number>();
  let app: App | undefined;
  let reload: Reload | undefined;
  let firstSignal: { readonly signal: EndingSignal; readonly atMs: number } | undefined;
  let crashed = false;

  async function live(): Promise<number> {
    let running: App;
    try {
      running = createApp();
    } catch (err) {
      report(err, "cannot start");
      return err instanceof ConfigError ? EXIT.config : EXIT.failure;
    }
    const starting = settled(invoke(() => running.start()));
    const early = await Promise.race([starting, ending.promise]);
    if (typeof early === "object" && early.kind === "failed") {
      report(early.cause, "cannot start");
      crashed = true;
    }
    if (early !== "signal" && !crashed) reload?.begin();
    const reason = crashed ? "crash" : await ending.promise;
    reload?.end();
    return (await stop(running, reason)) && !crashed ? EXIT.ok : EXIT.failure;
  }

  function createApp(): App {
    const config = load(process.env);
    const made = create(config);
    app = made;
    if (made.reconfigure === undefined) return made;
    reload = createReload<Config>({
      config,
      load: () => load(process.env),
      reconfigure: (changed) => made.reconfigure?.(changed),
      logger: made.logger,
      intervalMs: options.reloadIntervalMs ?? DEFAULT_RELOAD_INTERVAL_MS,
    });
    process.on("SIGHUP", onHangUp);
    return made;
  }

  /** Stops the app. Resolves to false when that failed. */
  async function stop(running: App, reason: "signal" | "crash"): Promise<boolean> {
    const { logger } = running;
    const stopping = invoke(() => running.stop());
    // A healthy app is bounded by itself; a crashed one may not be.
    const outcome = reason === "signal" ? await settled(stopping) : await bounded(stopping, crashStopTimeoutMs);
    if (outcome.kind === "failed") logger.error({ err: outcome.cause }, "failed to stop");
    else if (outcome.kind === "overran") logger.error({ timeout_ms: crashStopTimeoutMs }, "did not stop in time");
    else logger.info("stopped");
    return outcome.kind === "done";
  }

  function onSignal(signal: EndingSignal): void {
    if (firstSignal !== undefined) {
      if (signal === firstSignal.signal && Date.now() - firstSignal.atMs < ECHO_MS) return;
      app?.logger.warn(`${signal} again: ending now`);
      forced.resolve(EXIT.signal + constants.signals[signal]);
      return;
    }
    firstSignal = { signal, atMs: Date.now() };
    app?.logger.info(`${signal}: stopping`);
    ending.resolve("signal");
  }

  function onHangUp(): void {
    reload?.now();
  }

  function onCrash(err: unknown): void {
    crashed = true;
    report(err, "the process failed");
    ending.resolve("crash");
  }

  function report(err: unknown, message: string): void {
    if (app !== undefined) app.logger.fatal({ err }, message);
    else if (err instanceof ConfigError) process.stderr.write(`${err.message}\n`);
    else process.stderr.write(redactLine(`${message}: ${inspect(err)}\n`));
  }

  for (const signal of SIGNALS) process.on(signal, onSignal);
  for (const event of CRASHES) process.on(event, onCrash);
  // Without a socket or timer of the app, the event loop would end.
  const keepAlive = setInterval(() => {}, LONGEST_INTERVAL_MS);
  const code = await Promise.race([live(), forced.promise]);
  clearInterval(keepAlive);
  for (const signal of SIGNALS) process.off(signal, onSignal);
  for (const event of CRASHES) process.off(event, onCrash);
  process.off("SIGHUP", onHangUp);
  reload?.end();
  app?.logger.flush();
  process.exit(code);
}
