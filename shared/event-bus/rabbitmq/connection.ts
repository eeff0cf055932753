import type { Channel, ConnectionOptions } from "rabbitmq-client";
import { createLogThrottle, type Logger } from "#shared/logging";
import { bounded } from "#shared/timing";
import type { ConnectionState } from "../bus.ts";
import type { RabbitmqConfig } from "../config.ts";
import { busUnavailable } from "../errors.ts";
import { createClient, createWriteTogether } from "./client-workarounds.ts";

/** A connection to the broker that is opened again whenever it is lost. */
export interface BrokerConnection {
  state(): ConnectionState;
  /** Whether it is open, and the broker takes messages. */
  readonly isReady: boolean;
  /** Resolves when it is ready; rejects with the signal's reason, or when it is closed. */
  ready(signal: AbortSignal): Promise<void>;
  /** Has what is written in this turn of the event loop go out together. To be called before a write to a channel. */
  writeTogether(): void;
  /**
   * Opens a channel. Its errors reach the promises of its user, and end nothing else.
   *
   * @throws DomainError EVENT_BUS_UNAVAILABLE
   */
  channel(): Promise<Channel>;
  /** Closes in order, and after `timeoutMs` at once. */
  close(timeoutMs: number): Promise<void>;
}

export interface BrokerConnectionOptions {
  readonly name: ConnectionState["name"];
  readonly config: Pick<RabbitmqConfig, "url" | "connectTimeoutMs" | "heartbeatMs">;
  /** The service's name, for the broker's own listings. */
  readonly source: string;
  readonly logger: Logger;
}

/** Size of what goes out in one system call. Node's default of 64 KiB would cut a burst of messages into many. */
const WRITE_BUFFER_BYTES = 1024 * 1024;
const MIN_RETRY_MS = 200;
const MAX_RETRY_MS = 5_000;

export function openConnection({ name, config, source, logger }: BrokerConnectionOptions): BrokerConnection {
  const connectionLogger = logger.child({ connection: name });
  // A link may come and go many times a second.
  const log = createLogThrottle(connectionLogger);
  const waiting = new Set<() => void>();
  const closing = new AbortController();
  let lastError: string | undefined;
  let connected = false;
  let blocked = false;

  const options: ConnectionOptions = {
    url: config.url,
    connectionName: `${source} ${name}`,
    connectionTimeout: config.connectTimeoutMs,
    acquireTimeout: config.connectTimeoutMs,
    heartbeat: Math.max(1, Math.round(config.heartbeatMs / 1_000)),
    socket: { writableHighWaterMark: WRITE_BUFFER_BYTES } as object as NonNullable<ConnectionOptions["socket"]>,
    retryLow: MIN_RETRY_MS,
    retryHigh: MAX_RETRY_MS,
  };
  const rabbit = createClient(options, () =>
    connectionLogger.warn(
      "this version of rabbitmq-client is not known: events with unusual headers become dead letters at once",
    ),
  );
  const writeTogether = createWriteTogether(rabbit);
  rabbit.on("connection", () => {
    connected = true;
    blocked = false;
    lastError = undefined;
    log.info("connected", {}, "connected to RabbitMQ");
    wake();
  });
  // Emitted once each time that the connection is lost, or cannot be opened. Errors of channels are emitted there.
  rabbit.on("error", (err: unknown) => {
    connected = false;
    blocked = false;
    if (closing.signal.aborted) return;
    // The client's prefix for an error that belongs to no command.
    if (err instanceof Error) err.message = err.message.replace(/^undefined: /, "");
    lastError = err instanceof Error ? err.message || String(codeOf(err)) : String(err);
    log.warn("failed", { err }, "the connection to RabbitMQ failed: trying again");
  });
  rabbit.on("connection.blocked", (reason) => {
    blocked = true;
    lastError = `blocked by the broker: ${reason}`;
    log.warn("blocked", { reason }, "RabbitMQ is short of memory or disk and takes no messages");
  });
  rabbit.on("connection.unblocked", () => {
    blocked = false;
    lastError = undefined;
    log.info("unblocked", {}, "RabbitMQ takes messages again");
    wake();
  });

  function wake(): void {
    for (const resolve of [...waiting]) resolve();
  }

  const isReady = () => connected && !blocked && !closing.signal.aborted;

  return {
    state() {
      const why = lastError === undefined ? {} : { lastError };
      if (closing.signal.aborted) return { name, state: "closed" };
      if (blocked) return { name, state: "blocked", ...why };
      return isReady() ? { name, state: "connected" } : { name, state: "connecting", ...why };
    },
    get isReady() {
      return isReady();
    },
    async ready(signal) {
      signal.throwIfAborted();
      closing.signal.throwIfAborted();
      if (isReady()) return;
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const abort = () => reject(signal.aborted ? signal.reason : closing.signal.reason);
      waiting.add(resolve);
      for (const ending of [signal, closing.signal]) ending.addEventListener("abort", abort);
      try {
        await promise;
      } finally {
        waiting.delete(resolve);
        for (const ending of [signal, closing.signal]) ending.removeEventListener("abort", abort);
      }
    },
    writeTogether,
    async channel() {
      const acquiring = rabbit.acquire({ emitErrorsFromChannel: true });
      const { kind } = await bounded(acquiring, config.connectTimeoutMs);
      if (kind === "overran") {
        // One that comes late has no user.
        acquiring.then(
          (late) => late.close(),
          () => {},
        );
        throw busUnavailable("the broker does not open a channel");
      }
      try {
        const channel = await acquiring;
        // Without a listener an error would end the process.
        channel.on("error", () => {});
        return channel;
      } catch (error) {
        throw busUnavailable("the broker cannot be reached", error);
      }
    },
    async close(timeoutMs) {
      closing.abort(busUnavailable("the event bus is closed"));
      await bounded(rabbit.close(), timeoutMs);
      rabbit.unsafeDestroy();
      log.flush();
    },
  };
}

/** The code of an error of AMQP or of the system, such as `PRECONDITION_FAILED`; undefined when it has none. */
export function codeOf(error: unknown): string | undefined {
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" ? code : undefined;
}
