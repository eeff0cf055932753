import type { ClientExchange, RequestHead, ResponseSink } from "../exchange.ts";
import type { ClientTls } from "../tls.ts";
import type { KeepaliveOptions } from "./keepalive.ts";

export interface Http2ConnectionOptions {
  /** `host:port` to connect to. */
  readonly address: string;
  /** What requests name as `:authority`. */
  readonly authority: string;
  readonly tls: ClientTls | undefined;
  readonly keepalive: Pick<KeepaliveOptions, "timeMs" | "timeoutMs" | "withoutCalls" | "checkFactor">;
  /** From now to the peer's SETTINGS. */
  readonly connectTimeoutMs: number;
  /** How much the peer may send ahead of the reader, in bytes: of one stream, and of all streams together. */
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  /** The peer's SETTINGS are there: it speaks HTTP/2, and streams can be opened. At most once. */
  readonly onReady: () => void;
  /**
   * No stream can be opened any more; those that are open may go on. Exactly once, possibly before `onReady`. The
   * cause is missing when that was meant: a GOAWAY with NO_ERROR, an orderly end, `close`.
   */
  readonly onUnusable: (cause?: Error) => void;
  /** A stream has ended, or the peer has changed how many it takes or whether it answers. */
  readonly onChange: () => void;
  /** The peer says that it was asked for signs of life too often (gRFC A8). */
  readonly onTooManyPings: () => void;
}

/** One HTTP/2 connection, from its first SYN to its end. It holds the process only while it has streams. */
export interface Http2Connection {
  /**
   * Opens a stream and sends its head. Undefined when the connection takes no more streams: use another.
   *
   * @throws ConnectError with RESOURCE_EXHAUSTED when the head is larger than the peer takes
   * @throws TypeError when a header is not allowed
   */
  open(head: RequestHead, sink: ResponseSink): ClientExchange | undefined;
  openStreams(): number;
  /** Whether one more stream may be opened now: the peer's MAX_CONCURRENT_STREAMS. */
  hasRoom(): boolean;
  /** Whether the peer has worked on any call of it, as far as one can tell. */
  wasUseful(): boolean;
  /** False while the peer owes a sign of life. */
  isResponsive(): boolean;
  /** Asks the peer for a sign of life: an answer of its is overdue. */
  checkAlive(): void;
  /** Opens no more streams, and ends when the last is done. */
  close(): void;
  /** Ends now; open calls fail as `closed`. */
  destroy(): void;
  /** Resolves when the socket is closed. */
  readonly closed: Promise<void>;
}

export type OpenConnection = (options: Http2ConnectionOptions) => Http2Connection;
