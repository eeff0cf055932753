import type { IncomingHttpHeaders, IncomingHttpStatusHeader } from "node:http2";

export type ResponseHeaders = IncomingHttpHeaders & IncomingHttpStatusHeader;

export interface RequestHead {
  readonly method: string;
  /** With the query, if any. */
  readonly path: string;
  /** Names in lower case and values, alternating. Without the headers that belong to the transport. */
  readonly headers: readonly string[];
}

/** Takes the response of one call. Its functions must not throw. */
export interface ResponseSink {
  onHeaders(headers: ResponseHeaders): void;
  onData(chunk: Buffer): void;
  onTrailers(trailers: IncomingHttpHeaders): void;
  /** The request's buffer is empty again after a `write` that returned false. */
  onDrain(): void;
  /** The response is complete. Nothing follows. */
  onEnd(): void;
  /** Once, instead of `onEnd`. Nothing follows. Facts only: `failureError` maps them to a status code. */
  onError(failure: ExchangeFailure): void;
}

/** How an exchange ended without a complete response. */
export interface ExchangeFailure {
  /**
   * - `connect`: no connection could be made
   * - `refused`: the peer refused the request (REFUSED_STREAM, or above the last stream id of a GOAWAY)
   * - `goaway`: the connection was closed before the request left this process
   * - `reset`: the peer reset the stream with `http2Code`
   * - `disconnected`: the connection was lost
   * - `protocol`: the peer violated HTTP
   * - `closed`: this side closed the connection
   */
  readonly kind: "connect" | "refused" | "goaway" | "reset" | "disconnected" | "protocol" | "closed";
  readonly http2Code?: number | undefined;
  /** False only when the peer certainly did not process the call, which makes a transparent retry safe. */
  readonly isProcessed: boolean;
  readonly cause?: Error | undefined;
}

/** Flow control of a response's body. */
export interface BodyFlow {
  pause(): void;
  resume(): void;
}

/** One request on its way and its response, over either HTTP version. */
export interface ClientExchange extends BodyFlow {
  /** @returns false when the caller should wait for `onDrain` */
  write(chunk: Uint8Array): boolean;
  /** Completes the request. */
  end(chunk?: Uint8Array): void;
  /**
   * Gives up the exchange: resets the stream with CANCEL without completing the request, or drops the HTTP/1.1 connection.
   * Idempotent. No event follows.
   */
  cancel(): void;
}
