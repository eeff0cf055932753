import type { Endpoint } from "../addresses/endpoint.ts";

export interface ResolverListener {
  /**
   * The service's endpoints are these from now on, each address once. Only when the set is another one. A set that becomes
   * empty is told after `empty_grace`, and at once when none was known before.
   */
  onEndpoints(endpoints: readonly Endpoint[]): void;
  /** The registry cannot be asked, or why it lists none. What was told of endpoints still holds. */
  onError(error: Error): void;
}

/** Follows the endpoints of one service. */
export interface Resolver {
  /**
   * Begins to look, once. Never blocks and never throws: a registry that is down is tried again until `stop`. The listener
   * may be told before this returns.
   */
  start(listener: ResolverListener): void;
  /** Look again soon: a connection has failed. At most once per `min_refresh`; more calls within it count as one. */
  refresh(): void;
  /** Nothing is told afterwards; sockets and timers are gone. */
  stop(): void;
}
