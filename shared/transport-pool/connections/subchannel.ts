import type { EndSignal } from "../call/lazy-abort-signal.ts";
import type { ClientExchange, RequestHead, ResponseSink } from "./exchange.ts";

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
