import { type ClientHttp2Stream, constants, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from "node:http2";
import { Duplex } from "node:stream";
import { ConnectError } from "@connectrpc/connect";
import { errorFromNode } from "./node-errors.ts";
import { callError, codeOfReset, resetWithoutError } from "./stream-errors.ts";
import type { SupervisedStream } from "./supervise-stream.ts";

const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_STREAM_STATE_IDLE } = constants;

export type ResponseHeaders = IncomingHttpHeaders & IncomingHttpStatusHeader;

/** A unary request, and whoever takes the answer. */
export interface UnaryExchange {
  readonly method: string;
  readonly path: string;
  /** Names and values in turn. */
  readonly headers: readonly string[];
  readonly body: Uint8Array;
  /** What these four throw, the call fails with. */
  onHeaders(headers: ResponseHeaders): void;
  onData(chunk: Buffer): void;
  onTrailers(trailers: IncomingHttpHeaders): void;
  /** The answer is whole. */
  onEnd(): void;
  /** It never will be. Nothing follows, and nothing has to be cleaned up. */
  onError(reason: unknown): void;
}

/** A unary call that has been sent. */
export interface SentUnary {
  /** The call has ended on this side: its peer is told, whatever the reason, that it was cancelled. */
  cancel(): void;
  /** No further data until `resume`. */
  pause(): void;
  resume(): void;
}

/** The stream that carries a unary call. */
export interface UnaryStream extends SupervisedStream, SentUnary {}

/** What is the same for all the calls of a connection. */
export interface UnaryStreamOptions {
  /** Why the connection is gone, when it is. */
  readonly lost: () => ConnectError | undefined;
  readonly onClose: (stream: UnaryStream, rstCode: number | undefined) => void;
}

/**
 * Sends the request and collects the answer, with the guarantees of `superviseStream`: the exchange always ends, once,
 * with the code that gRPC gives to whatever becomes of the stream, and the stream ends with it. Has to be called at once
 * when the stream is made.
 */
export function sendUnary(stream: CallStream, exchange: UnaryExchange, options: UnaryStreamOptions): UnaryStream {
  const carried = new CarriedCall(stream, exchange, options);
  stream[carriedKey] = carried;
  stream.on("error", onError);
  stream.on("response", onResponse);
  stream.on("data", onData);
  stream.on("trailers", onTrailers);
  stream.push = push;
  stream.on("end", onEnd);
  stream.on("close", onClose);
  stream.end(exchange.body);
  return carried;
}

/** Where a stream has the call that it carries. */
const carriedKey = Symbol("carried call");

type CallStream = ClientHttp2Stream & { [carriedKey]?: CarriedCall | undefined };

class CarriedCall implements UnaryStream {
  previous: SupervisedStream | undefined;
  next: SupervisedStream | undefined;
  readonly #stream: ClientHttp2Stream;
  readonly #options: UnaryStreamOptions;
  /** Undefined when it is over. */
  #open: UnaryExchange | undefined;
  #isComplete = false;

  constructor(stream: ClientHttp2Stream, exchange: UnaryExchange, options: UnaryStreamOptions) {
    this.#stream = stream;
    this.#open = exchange;
    this.#options = options;
  }

  fail(reason: unknown): void {
    const failed = this.#open;
    if (failed === undefined) return;
    this.#open = undefined;
    failed.onError(reason);
    this.cancel();
  }

  cancel(): void {
    this.#open = undefined;
    const stream = this.#stream;
    if (stream.destroyed) return;
    if (!stream.closed) stream.close(NGHTTP2_CANCEL);
    // What was received and is not read would keep the stream, and by that the connection.
    setImmediate(() => stream.destroy());
  }

  isUnsent(): boolean {
    return this.#stream.state?.state === NGHTTP2_STREAM_STATE_IDLE;
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  errored(raw: Error): void {
    if (this.#open !== undefined) this.fail(callError(this.#stream, raw, this.#options.lost) ?? errorFromNode(raw));
  }

  responded(headers: ResponseHeaders): void {
    try {
      this.#open?.onHeaders(headers);
    } catch (error) {
      this.fail(error);
    }
  }

  received(chunk: Buffer): void {
    try {
      this.#open?.onData(chunk);
    } catch (error) {
      this.fail(error);
    }
  }

  trailed(trailers: IncomingHttpHeaders): void {
    this.#open?.onTrailers(trailers);
  }

  completed(): void {
    this.#isComplete = true;
  }

  ended(): void {
    const ended = this.#open;
    if (ended === undefined || !this.#isComplete) return;
    this.#open = undefined;
    try {
      ended.onEnd();
    } catch (error) {
      ended.onError(error);
    }
    // Answered before the peer had the whole request. (Node says "end" before it knows that the stream is closed.)
    if (!this.#stream.writableFinished) this.cancel();
  }

  closed(): void {
    const { rstCode } = this.#stream;
    if (this.#open !== undefined) this.fail(this.#options.lost() ?? closedError(rstCode));
    this.#options.onClose(this, rstCode);
  }
}

// The same functions for all streams. V8 keeps streams through several collections: each closure would be kept too, and
// whatever it knows of the call.
function onError(this: CallStream, raw: Error): void {
  this[carriedKey]?.errored(raw);
}

function onResponse(this: CallStream, headers: ResponseHeaders): void {
  this[carriedKey]?.responded(headers);
}

function onData(this: CallStream, chunk: Buffer): void {
  this[carriedKey]?.received(chunk);
}

function onTrailers(this: CallStream, trailers: IncomingHttpHeaders): void {
  this[carriedKey]?.trailed(trailers);
}

function onEnd(this: CallStream): void {
  this[carriedKey]?.ended();
}

function onClose(this: CallStream): void {
  const carried = this[carriedKey];
  this[carriedKey] = undefined;
  carried?.closed();
}

/**
 * The readable side ends in either case: on END_STREAM before the stream is closed, and on a reset, even one with
 * NO_ERROR, after. Nothing else tells a whole answer from one that was cut off.
 */
function push(this: CallStream, chunk: unknown, encoding?: BufferEncoding): boolean {
  if (chunk === null && !this.closed) this[carriedKey]?.completed();
  return Duplex.prototype.push.call(this, chunk, encoding);
}

/** In the words of stock Connect: Node has no error for a stream that was reset with CANCEL. */
function closedError(rstCode: number | undefined): ConnectError {
  if (rstCode === NGHTTP2_NO_ERROR) return resetWithoutError();
  const name = rstCode === NGHTTP2_CANCEL ? "CANCEL" : "code";
  return new ConnectError(
    `http/2 stream closed with error code ${name} (0x${(rstCode ?? 0).toString(16)})`,
    codeOfReset(rstCode),
  );
}
