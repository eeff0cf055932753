import type { EndSignal } from "../policies/call-end.ts";
import type { ConnectBackoff } from "./connect-backoff.ts";
import type { ClientExchange, RequestHead, ResponseSink } from "./exchange.ts";
import type { Http2ConnectionOptions, OpenConnection } from "./http2-connection.ts";

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
  /**
   * Opens an exchange: at once when a connection has room, otherwise as soon as one has.
   *
   * @param signal fires when the call has ended; ends the wait for a connection
   * @throws an `unsent` error, also as a rejection, when there is no connection to be had
   */
  open(head: RequestHead, sink: ResponseSink, signal: EndSignal): ClientExchange | Promise<ClientExchange>;
  /** No new calls; open ones may go on for `timeoutMs`, then they fail with CANCELED. Never rejects. */
  close(timeoutMs: number): Promise<void>;
}

export interface SubchannelOptions {
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
