import { AsyncLocalStorage } from "node:async_hooks";
import type { Agent } from "node:http";
import type { ClientHttp2Stream, OutgoingHttpHeaders } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { unsent } from "../policies/unsent.ts";
import type { ConnectBackoff } from "./connect-backoff.ts";
import { describeError } from "./describe-error.ts";
import type { Http2Connection, Http2ConnectionOptions, OpenConnection, RequestOptions } from "./http2-connection.ts";
import { createWaiters } from "./waiters.ts";

/**
 * gRPC's connectivity states (connectivity-semantics-and-api.md). After a failed attempt it stays `transient_failure`,
 * also while it tries again, until an attempt succeeds (gRFC A62).
 */
export type SubchannelState = "idle" | "connecting" | "ready" | "transient_failure" | "shutdown";

/** The way to one peer. */
export interface Subchannel {
  /** Begins to connect, if nobody has. Returns at once. */
  connect(): void;
  state(): SubchannelState;
  /** Why there is no connection, when there should be one. */
  lastError(): Error | undefined;
  /** False while a sign of life of the peer is overdue: calls should go elsewhere, if there is an elsewhere. */
  isResponsive(): boolean;
  /** An answer is overdue: asks the peer whether it lives. */
  checkAlive(): void;
  /** Those that wait for room on a connection among them. */
  openCalls(): number;
  /** Connections in use, and those that still finish their calls. */
  connections(): number;
  /** No new calls; open ones may go on for `timeoutMs`, then they fail with CANCELED. Never rejects. */
  close(timeoutMs: number): Promise<void>;
}

/** One whose calls are streams of HTTP/2 connections. */
export interface Http2Subchannel extends Subchannel {
  /**
   * Opens a stream, as soon as there is room on a connection. Fails with an `unsent` error when there is no connection
   * any more.
   *
   * @param signal fires when the call has ended, well or not
   */
  request(headers: OutgoingHttpHeaders, options: RequestOptions, signal?: AbortSignal): Promise<ClientHttp2Stream>;
}

/** One whose calls are requests of an HTTP/1.1 agent. */
export interface Http1Subchannel extends Subchannel {
  readonly agent: Agent;
  /** What requests name as `Host`. */
  readonly authority: string;
}

export interface SubchannelOptions {
  /** The service's name, for messages. */
  readonly name: string;
  readonly address: string;
  readonly connection: Pick<Http2ConnectionOptions, "authority" | "tls" | "connectTimeoutMs" | "keepalive">;
  readonly backoff: ConnectBackoff;
  /** More are opened while all are at the peer's MAX_CONCURRENT_STREAMS (gRFC A105). */
  readonly maxConnections: number;
  /** A connection that has had no calls for so long is closed. */
  readonly idleTimeoutMs: number;
  readonly open: OpenConnection;
  /**
   * After each change of state or responsiveness, and after each attempt to connect that has failed; `cause` is what
   * went wrong, if anything.
   */
  readonly onChange: (state: SubchannelState, cause?: Error) => void;
}

/** A connection beyond the first, opened for a rush, goes when it has had no calls for so long. */
const EXTRA_IDLE_MS = 60_000;
/**
 * A connection that a peer closes within so long, and that was of no use, counts as an attempt that has failed; the first
 * one that ends in good order does not. A peer that drains, or whose connections grow old, may do that at any moment, also
 * in the one between its SETTINGS and the first call.
 */
const PREMATURE_MS = 1_000;
/** What gRFC A8 does about `too_many_pings`. */
const KEEPALIVE_FACTOR = 2;

/**
 * Connects when it is told to. Once an attempt has failed, further ones follow in the background, as the backoff says,
 * until one succeeds. A connection that was good and is lost, or that its peer closes, leaves it idle.
 */
export function createSubchannel(options: SubchannelOptions): Http2Subchannel {
  const { name, address, backoff, maxConnections } = options;
  // Connections and timers outlive the call that happens to begin them, and must not keep or log its context.
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  /** All whose socket is open. */
  const connections = new Set<Http2Connection>();
  /** Those that take calls, the oldest first: it gets the calls, so that the others can be closed again. */
  const usable = new Map<Http2Connection, { readonly readyAt: number; idleTimer: NodeJS.Timeout | undefined }>();
  const waiters = createWaiters<void>();
  let state: SubchannelState = "idle";
  let attempting = false;
  let mayExtendAt = 0;
  let lastError: Error | undefined;
  let retryTimer: NodeJS.Timeout | undefined;
  let wasResponsive = true;
  /** The last connection ended in good order before it was of use. */
  let wasForgiven = false;
  let { keepalive } = options.connection;

  function setState(next: SubchannelState, cause?: Error): void {
    state = next;
    outsideOfCalls(() => options.onChange(next, cause));
  }

  function attempt(): void {
    attempting = true;
    outsideOfCalls(() => {
      const startedAt = performance.now();
      const connection = options.open({
        address,
        ...options.connection,
        keepalive,
        onReady: () => ready(connection),
        onUnusable(cause) {
          if (state === "shutdown") return;
          const use = usable.get(connection);
          if (use === undefined) attemptFailed(cause ?? new Error("the peer closed the connection"), startedAt);
          else lost(connection, use, cause);
        },
        onChange: () => connectionChanged(connection),
        onTooManyPings() {
          keepalive = { ...keepalive, timeMs: keepalive.timeMs * KEEPALIVE_FACTOR };
        },
      });
      connections.add(connection);
      void connection.closed.then(() => connections.delete(connection));
    });
  }

  function ready(connection: Http2Connection): void {
    attempting = false;
    lastError = undefined;
    usable.set(connection, { readyAt: performance.now(), idleTimer: undefined });
    watchIdle(connection);
    setState("ready");
    waiters.resolveAll();
  }

  function lost(connection: Http2Connection, use: { readyAt: number }, cause: Error | undefined): void {
    stopUsing(connection);
    const isPremature = !connection.wasUseful() && performance.now() - use.readyAt < PREMATURE_MS;
    const isForgiven = isPremature && cause === undefined && !wasForgiven;
    wasForgiven = isPremature && (isForgiven || wasForgiven);
    if (usable.size > 0) waiters.resolveAll();
    else if (isPremature && !isForgiven) {
      attemptFailed(cause ?? new Error("the peer closed the new connection"), use.readyAt);
    } else {
      if (!isPremature) backoff.reset();
      lastError = cause;
      setState("idle", cause);
      failWaiting(cause);
    }
  }

  function attemptFailed(cause: Error, startedAt: number): void {
    attempting = false;
    lastError = cause;
    const delayMs = Math.max(0, backoff.nextDelayMs() - (performance.now() - startedAt));
    if (usable.size > 0) {
      // One more was wanted, and there are others: whoever waits for room goes on waiting.
      mayExtendAt = performance.now() + delayMs;
      return;
    }
    retryTimer = setTimeout(attempt, delayMs);
    retryTimer.unref();
    setState("transient_failure", cause);
    failWaiting(cause);
  }

  /** The connection that they waited for is not to be had: another peer may be. */
  function failWaiting(cause: Error | undefined): void {
    const reason = cause === undefined ? "the peer closed the connection" : describeError(cause);
    waiters.rejectAll(() => unsent("unsent", `${name} at ${address}: ${reason} before the call was sent`, cause));
  }

  function connectionChanged(connection: Http2Connection): void {
    watchIdle(connection);
    if (waiters.size() > 0 && connection.hasRoom()) waiters.resolveFirst();
    const isResponsive = responsive();
    if (isResponsive === wasResponsive || state === "shutdown") return;
    wasResponsive = isResponsive;
    outsideOfCalls(() => options.onChange(state));
  }

  function watchIdle(connection: Http2Connection): void {
    const use = usable.get(connection);
    if (use === undefined || connection.openStreams() > 0) return;
    use.idleTimer ??= outsideOfCalls(() => setTimeout(closeIdle, idleMs(connection), connection).unref());
    use.idleTimer.refresh();
  }

  function closeIdle(connection: Http2Connection): void {
    if (connection.openStreams() > 0) return;
    stopUsing(connection);
    connection.close();
    if (usable.size === 0 && state === "ready") setState("idle");
  }

  function idleMs(connection: Http2Connection): number {
    const isExtra = usable.keys().next().value !== connection;
    return isExtra ? Math.min(EXTRA_IDLE_MS, options.idleTimeoutMs) : options.idleTimeoutMs;
  }

  function stopUsing(connection: Http2Connection): void {
    clearTimeout(usable.get(connection)?.idleTimer);
    usable.delete(connection);
  }

  function responsive(): boolean {
    if (usable.size === 0) return true;
    for (const connection of usable.keys()) if (connection.isResponsive()) return true;
    return false;
  }

  function withRoom(): Http2Connection | undefined {
    for (const connection of usable.keys()) if (connection.hasRoom()) return connection;
    return undefined;
  }

  return {
    async request(headers, requestOptions, signal) {
      try {
        // Whoever comes later stands behind those that wait.
        if (waiters.size() > 0) await waiters.add(signal);
        for (;;) {
          signal?.throwIfAborted();
          if (usable.size === 0) throw unavailable();
          const connection = withRoom();
          if (connection === undefined) {
            if (usable.size < maxConnections && !attempting && performance.now() >= mayExtendAt) attempt();
            await waiters.add(signal);
          } else {
            const stream = connection.request(headers, requestOptions, signal);
            if (stream !== undefined) return stream;
          }
        }
      } finally {
        if (waiters.size() > 0 && withRoom() !== undefined) waiters.resolveFirst();
      }
    },
    connect() {
      if (state !== "idle") return;
      setState("connecting");
      attempt();
    },
    state: () => state,
    lastError: () => lastError,
    isResponsive: responsive,
    checkAlive() {
      for (const connection of usable.keys()) connection.checkAlive();
    },
    openCalls: () => connections.values().reduce((sum, connection) => sum + connection.openStreams(), waiters.size()),
    connections: () => connections.size,
    async close(timeoutMs) {
      if (state !== "shutdown") setState("shutdown");
      for (const connection of [...usable.keys()]) stopUsing(connection);
      clearTimeout(retryTimer);
      failWaiting(new Error("it is not called any more"));
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

  function unavailable(): ConnectError {
    const reason = lastError === undefined ? "" : `: ${describeError(lastError)}`;
    return unsent("unsent", `${name} at ${address} has no connection any more${reason}`, lastError);
  }
}
