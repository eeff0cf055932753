import { AsyncLocalStorage } from "node:async_hooks";
import { Code, ConnectError } from "@connectrpc/connect";
import type { GrpcTransportOptions } from "@connectrpc/connect-node";
import { originOf } from "./address.ts";
import { currentCallSignal } from "./call-signal.ts";
import type { ConnectBackoff } from "./connect-backoff.ts";
import { describeError } from "./describe-error.ts";
import type { Http2Connection, OpenConnection } from "./http2-connection.ts";
import { createWaiters } from "./waiters.ts";

/**
 * gRPC's connectivity states (connectivity-semantics-and-api.md). After a failed attempt it stays `transient_failure`,
 * also while it tries again, until an attempt succeeds (gRFC A62).
 */
export type SubchannelState = "idle" | "connecting" | "ready" | "transient_failure" | "shutdown";

export interface SubchannelOptions {
  /** The service's name, for messages. */
  readonly name: string;
  /** `host:port`. */
  readonly address: string;
  readonly connectTimeoutMs: number;
  readonly backoff: ConnectBackoff;
  readonly open: OpenConnection;
  /** After each change, and after each attempt to connect that has failed; `cause` is what went wrong, if anything. */
  readonly onChange: (state: SubchannelState, cause?: Error) => void;
}

type SessionManager = NonNullable<GrpcTransportOptions["sessionManager"]>;

/** The way to one peer: at most one connection in use, and those before it whose calls are still going on. */
export interface Subchannel extends SessionManager {
  /** Begins to connect, if nobody has. Returns at once. */
  connect(): void;
  state(): SubchannelState;
  /** Why there is no connection, when there should be one. */
  lastError(): Error | undefined;
  openCalls(): number;
  /** No new calls; open ones may go on for `timeoutMs`, then they fail with CANCELED. Never rejects. */
  close(timeoutMs: number): Promise<void>;
}

/** How many connections that close just then a call puts up with. */
const MAX_CONNECTIONS_PER_CALL = 5;

/**
 * A call waits for the first connection, up to its own deadline. Once an attempt has failed, calls fail at once with
 * UNAVAILABLE and its error; attempts go on in the background, as the backoff says, until one succeeds. A connection
 * that was good and is lost, or that its peer closes, is replaced when the next call comes.
 */
export function createSubchannel(options: SubchannelOptions): Subchannel {
  const { name, address, backoff } = options;
  // Connections and timers outlive the call that happens to begin them, and must not keep or log its context.
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const connections = new Set<Http2Connection>();
  const waiters = createWaiters<Http2Connection>();
  let state: SubchannelState = "idle";
  let inUse: Http2Connection | undefined;
  let lastError: Error | undefined;
  let retryTimer: NodeJS.Timeout | undefined;

  function setState(next: SubchannelState, cause?: Error): void {
    state = next;
    outsideOfCalls(() => options.onChange(next, cause));
  }

  function connect(): void {
    if (state !== "idle") return;
    setState("connecting");
    attempt();
  }

  function attempt(): void {
    outsideOfCalls(() => {
      const startedAt = performance.now();
      const connection = options.open({
        origin: originOf(address),
        connectTimeoutMs: options.connectTimeoutMs,
        onReady: () => ready(connection),
        onUnusable: (cause) => {
          if (state === "shutdown") return;
          if (connection === inUse) lost(cause);
          else attemptFailed(cause ?? new Error("the peer closed the connection"), startedAt);
        },
      });
      connections.add(connection);
      void connection.closed.then(() => connections.delete(connection));
    });
  }

  function ready(connection: Http2Connection): void {
    backoff.reset();
    inUse = connection;
    lastError = undefined;
    setState("ready");
    waiters.resolveAll(connection);
  }

  function lost(cause: Error | undefined): void {
    inUse = undefined;
    lastError = cause;
    setState("idle", cause);
  }

  function attemptFailed(cause: Error, startedAt: number): void {
    lastError = cause;
    const delayMs = Math.max(0, backoff.nextDelayMs() - (performance.now() - startedAt));
    retryTimer = setTimeout(attempt, delayMs);
    retryTimer.unref();
    setState("transient_failure", cause);
    waiters.rejectAll(() => unavailable(cause));
  }

  function connected(signal: AbortSignal | undefined): Http2Connection | Promise<Http2Connection> {
    if (inUse !== undefined) return inUse;
    if (state === "shutdown") throw unavailable(new Error("the transport pool is closed"));
    if (state === "transient_failure" && lastError !== undefined) throw unavailable(lastError);
    connect();
    return waiters.add(signal);
  }

  function unavailable(cause: Error): ConnectError {
    const message = `${name} at ${address} cannot be reached: ${describeError(cause)}`;
    return new ConnectError(message, Code.Unavailable, undefined, undefined, cause);
  }

  return {
    authority: originOf(address),
    async request(method, path, headers, requestOptions) {
      const signal = currentCallSignal();
      for (let i = 0; i < MAX_CONNECTIONS_PER_CALL; i++) {
        const connection = await connected(signal);
        const allHeaders = { ...headers, ":method": method, ":path": path };
        const stream = connection.request(allHeaders, requestOptions, signal);
        if (stream !== undefined) return stream;
      }
      throw unavailable(new Error(`${MAX_CONNECTIONS_PER_CALL} connections in a row closed before the call was sent`));
    },
    notifyResponseByteRead() {
      // For keepalive, which measures from the last byte read.
    },
    connect,
    state: () => state,
    lastError: () => lastError,
    openCalls: () => connections.values().reduce((sum, connection) => sum + connection.openStreams(), waiters.size()),
    async close(timeoutMs) {
      if (state !== "shutdown") setState("shutdown");
      inUse = undefined;
      clearTimeout(retryTimer);
      waiters.rejectAll(() => unavailable(new Error("the transport pool is closed")));
      for (const connection of connections) connection.close();
      const allClosed = Promise.all([...connections].map(({ closed }) => closed));
      const timer = setTimeout(() => {
        const error = new ConnectError("the transport pool was closed", Code.Canceled);
        for (const connection of connections) connection.destroy(error);
      }, timeoutMs);
      await allClosed;
      clearTimeout(timer);
    },
  };
}
