import { AsyncLocalStorage } from "node:async_hooks";
import type { ConnectError } from "@connectrpc/connect";
import { describeError } from "#shared/errors";
import type { EndSignal } from "../../call/lazy-abort-signal.ts";
import { notProcessed } from "../../call/not-processed-error.ts";
import type { ConnectBackoff } from "../connect-backoff.ts";
import type { Subchannel, SubchannelState } from "../subchannel.ts";
import { createWaiters } from "../waiters.ts";
import type { Http2Connection, Http2ConnectionOptions, OpenConnection } from "./http2-connection.ts";
import { createUsableConnections } from "./usable-connections.ts";

export interface Http2SubchannelOptions {
  /** The service's name, for messages. */
  readonly name: string;
  readonly address: string;
  readonly connection: Pick<
    Http2ConnectionOptions,
    "authority" | "tls" | "connectTimeoutMs" | "keepalive" | "streamWindowBytes" | "connectionWindowBytes"
  >;
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

/**
 * A connection that a peer closes within so long, and that was of no use, counts as an attempt that has failed; the first
 * one that ends in good order does not. A peer that drains, or whose connections grow old, may do that at any moment, also
 * in the one between its SETTINGS and the first call.
 */
const PREMATURE_MS = 1_000;
/** What gRFC A8 does about `too_many_pings`. */
const KEEPALIVE_FACTOR = 2;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Connects when it is told to. Once an attempt has failed, further ones follow in the background, as the backoff says,
 * until one succeeds. A connection that was good and is lost, or that its peer closes, leaves it idle.
 */
export function createHttp2Subchannel(options: Http2SubchannelOptions): Subchannel {
  const { name, address, backoff, maxConnections } = options;
  // Connections and timers outlive the call that happens to begin them, and must not keep or log its context.
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  /** All whose socket is open. */
  const connections = new Set<Http2Connection>();
  const usable = createUsableConnections({ idleTimeoutMs: options.idleTimeoutMs, onIdle });
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
    if (attempting || state === "shutdown") return;
    attempting = true;
    clearTimeout(retryTimer);
    outsideOfCalls(() => {
      const startedAt = performance.now();
      let wasReady = false;
      const connection = options.open({
        address,
        ...options.connection,
        keepalive,
        onReady() {
          wasReady = true;
          ready(connection);
        },
        onUnusable(cause) {
          if (state === "shutdown") return;
          const readyAt = usable.remove(connection);
          if (readyAt !== undefined) lost(connection, readyAt, cause);
          // One that was ready and is not used any more was closed by this side.
          else if (!wasReady) attemptFailed(cause ?? new Error("the peer closed the connection"), startedAt);
        },
        onChange: () => connectionChanged(connection),
        onTooManyPings() {
          const timeMs = Math.min(keepalive.timeMs * KEEPALIVE_FACTOR, LONGEST_TIMER_MS);
          keepalive = { ...keepalive, timeMs, checkFactor: (keepalive.checkFactor ?? 1) * KEEPALIVE_FACTOR };
        },
      });
      connections.add(connection);
      void connection.closed.then(() => connections.delete(connection));
    });
  }

  function ready(connection: Http2Connection): void {
    attempting = false;
    if (state === "shutdown") {
      connection.close();
      return;
    }
    lastError = undefined;
    usable.add(connection);
    setState("ready");
    waiters.resolveAll();
  }

  function lost(connection: Http2Connection, readyAt: number, cause: Error | undefined): void {
    const isPremature = !connection.wasUseful() && performance.now() - readyAt < PREMATURE_MS;
    const isForgiven = isPremature && cause === undefined && !wasForgiven;
    wasForgiven = isPremature && (isForgiven || wasForgiven);
    if (!isPremature) backoff.reset();
    if (usable.size() > 0) {
      waiters.resolveAll();
    } else if (attempting) {
      // One more than there was is on its way: that is the one to wait for.
      lastError = cause;
      setState("connecting", cause);
    } else if (isPremature && !isForgiven) {
      attemptFailed(cause ?? new Error("the peer closed the new connection"), readyAt);
    } else {
      lastError = cause;
      setState("idle", cause);
      failWaiting(cause);
    }
  }

  function onIdle(): void {
    backoff.reset();
    if (usable.size() === 0 && state === "ready") setState("idle");
  }

  function attemptFailed(cause: Error, startedAt: number): void {
    attempting = false;
    lastError = cause;
    const delayMs = Math.max(0, backoff.nextDelayMs() - (performance.now() - startedAt));
    if (usable.size() > 0) {
      // One more was wanted, and there are others: whoever waits for room goes on waiting.
      mayExtendAt = performance.now() + delayMs;
      return;
    }
    clearTimeout(retryTimer);
    retryTimer = outsideOfCalls(() => setTimeout(attempt, delayMs).unref());
    setState("transient_failure", cause);
    failWaiting(cause);
  }

  /** The connection that they waited for is not to be had: another peer may be. */
  function failWaiting(cause: Error | undefined): void {
    const reason = cause === undefined ? "the peer closed the connection" : describeError(cause);
    waiters.rejectAll(() => notProcessed("unsent", `${name} at ${address}: ${reason} before the call was sent`, cause));
  }

  function connectionChanged(connection: Http2Connection): void {
    usable.used(connection);
    if (waiters.size() > 0 && connection.hasRoom()) waiters.resolveFirst();
    const isResponsive = usable.areResponsive();
    if (isResponsive === wasResponsive || state === "shutdown") return;
    wasResponsive = isResponsive;
    outsideOfCalls(() => options.onChange(state));
  }

  /** What `use` makes of a connection that has room, as soon as there is one that still takes it. */
  async function withRoom<T>(use: (connection: Http2Connection) => T | undefined, signal: EndSignal): Promise<T> {
    try {
      // Whoever comes later stands behind those that wait.
      if (waiters.size() > 0) await waiters.add(signal);
      for (;;) {
        signal.throwIfAborted();
        if (usable.size() === 0 && !attempting) throw unavailable();
        const connection = usable.withRoom();
        if (connection === undefined) {
          if (usable.size() < maxConnections && performance.now() >= mayExtendAt) attempt();
          await waiters.add(signal);
        } else {
          const used = use(connection);
          if (used !== undefined) return used;
        }
      }
    } finally {
      if (waiters.size() > 0 && usable.withRoom() !== undefined) waiters.resolveFirst();
    }
  }

  return {
    open(head, sink, signal) {
      const exchange = waiters.size() > 0 ? undefined : usable.withRoom()?.open(head, sink);
      return exchange ?? withRoom((connection) => connection.open(head, sink), signal);
    },
    connect() {
      if (state !== "idle") return;
      setState("connecting");
      attempt();
    },
    state: () => state,
    lastError: () => lastError,
    isResponsive: () => usable.areResponsive(),
    checkAlive: () => usable.checkAlive(),
    openCalls: () => connections.values().reduce((sum, connection) => sum + connection.openStreams(), waiters.size()),
    connections: () => connections.size,
    async close(timeoutMs) {
      if (state !== "shutdown") setState("shutdown");
      usable.clear();
      clearTimeout(retryTimer);
      failWaiting(new Error("it is not called any more"));
      for (const connection of connections) connection.close();
      const allClosed = Promise.all([...connections].map(({ closed }) => closed));
      const timer = setTimeout(() => {
        for (const connection of connections) connection.destroy();
      }, timeoutMs);
      await allClosed;
      clearTimeout(timer);
    },
  };

  function unavailable(): ConnectError {
    const reason = lastError === undefined ? "" : `: ${describeError(lastError)}`;
    return notProcessed("unsent", `${name} at ${address} has no connection any more${reason}`, lastError);
  }
}
