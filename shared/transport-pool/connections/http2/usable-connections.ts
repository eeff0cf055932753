import { AsyncLocalStorage } from "node:async_hooks";
import type { Http2Connection } from "./http2-connection.ts";

/** The connections to one peer that take calls. The oldest gets them first, so that the others can be closed again. */
export interface UsableConnections {
  add(connection: Http2Connection): void;
  /** When it was added; undefined when it is not, or not any more, among them. */
  remove(connection: Http2Connection): number | undefined;
  /** None is used any more; they are not closed. */
  clear(): void;
  size(): number;
  /** The oldest that has room for one more call. */
  withRoom(): Http2Connection | undefined;
  /** Whether one of them answers; also when there is none. */
  areResponsive(): boolean;
  checkAlive(): void;
  /** A call on the connection has ended. */
  used(connection: Http2Connection): void;
}

export interface UsableConnectionsOptions {
  /** A connection that has had no calls for so long is closed. */
  readonly idleTimeoutMs: number;
  /** One was closed for that, and is not among them any more. */
  readonly onIdle: () => void;
}

/** A connection beyond the first, opened for a rush, goes when it has had no calls for so long. */
const EXTRA_IDLE_MS = 60_000;

interface Use {
  readonly addedAt: number;
  readonly idleTimer: NodeJS.Timeout;
}

export function createUsableConnections({ idleTimeoutMs, onIdle }: UsableConnectionsOptions): UsableConnections {
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const uses = new Map<Http2Connection, Use>();

  function closeIdle(connection: Http2Connection): void {
    if (connection.openStreams() > 0) return;
    remove(connection);
    connection.close();
    onIdle();
  }

  function remove(connection: Http2Connection): number | undefined {
    const use = uses.get(connection);
    clearTimeout(use?.idleTimer);
    uses.delete(connection);
    return use?.addedAt;
  }

  return {
    add(connection) {
      const idleMs = uses.size > 0 ? Math.min(EXTRA_IDLE_MS, idleTimeoutMs) : idleTimeoutMs;
      const idleTimer = outsideOfCalls(() => setTimeout(closeIdle, idleMs, connection).unref());
      uses.set(connection, { addedAt: performance.now(), idleTimer });
    },
    remove,
    clear() {
      for (const connection of [...uses.keys()]) remove(connection);
    },
    size: () => uses.size,
    withRoom() {
      for (const connection of uses.keys()) if (connection.hasRoom()) return connection;
      return undefined;
    },
    areResponsive() {
      for (const connection of uses.keys()) if (connection.isResponsive()) return true;
      return uses.size === 0;
    },
    checkAlive() {
      for (const connection of uses.keys()) connection.checkAlive();
    },
    used: (connection) => void (connection.openStreams() === 0 && uses.get(connection)?.idleTimer.refresh()),
  };
}
