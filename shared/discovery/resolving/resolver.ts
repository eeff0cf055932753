import type { Endpoint } from "../addresses/endpoint.ts";

export interface ResolverListener {
  /**
   * Called with the current endpoints of the service, each address once, when they have changed. An empty list is reported
   * after `empty_grace`, or at once when no endpoint was known before.
   */
  onEndpoints(endpoints: readonly Endpoint[]): void;
  /** Called when the registry cannot be reached, or with the reason of an empty list. The last endpoints stay in use. */
  onError(error: Error): void;
}

/** Follows the endpoints of one service. */
export interface Resolver {
  /**
   * Begins to resolve, once. Never blocks and never throws: a registry that is down is tried again until `stop`. The listener
   * may be called before this returns.
   */
  start(listener: ResolverListener): void;
  /** Requests another look-up soon, after a failed connection. Calls within `min_refresh` count as one. */
  refresh(): void;
  /** Closes sockets and timers. The listener is not called any more. */
  stop(): void;
}
