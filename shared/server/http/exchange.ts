import type { IncomingHttpHeaders } from "node:http";
import type { PeerCertificate } from "node:tls";
import type { HeaderFields } from "#shared/unread";

/** How an exchange ended, in facts: one function of `rpc/` turns them into a status. */
export interface ExchangeEnd {
  /** `flushed`: the whole response was handed to the connection. */
  readonly kind: "flushed" | "reset" | "disconnected";
  /** Error code of the RST_STREAM. */
  readonly http2Code?: number | undefined;
}

/** Receives what happens to an exchange. */
export interface ExchangeListener {
  /** A chunk of the request's body, after `read`. */
  onData(chunk: Buffer): void;
  /** The request's body is complete, after `read`. */
  onEnd(): void;
  /** There is room for more of the response, after `needsDrain`. */
  onDrain(): void;
  /** The exchange is over. Called once, and nothing is called after it. */
  onClose(end: ExchangeEnd): void;
}

/**
 * One request whose head has arrived, and its response, over either HTTP version: all that the calls' core knows of
 * HTTP. Fields of a response that belong to the transport are dropped.
 */
export interface ServerExchange {
  readonly httpVersion: "1.1" | "2";
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Address and port of the other end of the connection. */
  readonly peer: string;
  /** What the client has presented (mTLS), read from the socket when it is first asked for. */
  readonly peerCertificate: PeerCertificate | undefined;
  /** On the clock of `performance.now()`. */
  readonly startedAtMs: number;
  /** Maximum size of a block of header fields that the peer accepts, counted as in RFC 9113 6.5.2. */
  readonly maxHeaderBytes: number;
  /** `open`: the response can be written. `ended`: it has been written whole. */
  readonly state: "open" | "ended" | "closed";
  /** Whether the head of the response has been written. */
  readonly isHeadWritten: boolean;
  /** Whether the writer of a long response should wait for `onDrain`. */
  readonly needsDrain: boolean;
  /** Of the request's body. */
  readonly bytesRead: number;
  /** Of the response's body. */
  readonly bytesWritten: number;

  /** Whether the connection may hold a whole response of that size until the peer takes it. */
  hasRoomFor(bytes: number): boolean;
  /** Takes the exchange. */
  listen(listener: ExchangeListener): void;
  /** Begins to push the body's chunks to the listener, or goes on after `pause`. */
  read(): void;
  pause(): void;
  /** Stops reading for good. */
  stop(): void;

  /**
   * Sends head, body and trailers at once. Without a body, over HTTP/2, the trailers are part of the head ("Trailers-Only").
   *
   * @throws TypeError before anything is written when a field is not allowed
   */
  respond(status: number, headers: HeaderFields, body?: Uint8Array, trailers?: HeaderFields): void;
  /** @throws TypeError before anything is written when a field is not allowed */
  writeHead(status: number, headers: HeaderFields): void;
  write(chunk: Uint8Array): void;
  end(chunk?: Uint8Array, trailers?: HeaderFields): void;
  /** Sends HTTP 500 and nothing else, in the place of a response that cannot be written. */
  respondError(): void;
  /** Gives the exchange up: RST_STREAM with CANCEL, or closes the HTTP/1.1 connection. Never half-closes. */
  reset(): void;
}

/** What hooks of Fastify have set for the response. */
export type HookHeaders = Readonly<NodeJS.Dict<number | string | string[]>>;

/** Size of a field in a header list (RFC 9113 6.5.2). */
export function fieldBytes(name: string, value: string): number {
  return name.length + value.length + 32;
}
