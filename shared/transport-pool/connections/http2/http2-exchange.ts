import { type ClientHttp2Stream, constants, type IncomingHttpHeaders } from "node:http2";
import { Duplex } from "node:stream";
import type { RunningCall } from "#shared/lifecycle";
import type { ClientExchange, ExchangeFailure, ResponseHeaders, ResponseSink } from "../exchange.ts";

const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM, NGHTTP2_STREAM_STATE_IDLE } = constants;

/** The connection of an exchange. */
export interface ExchangeConnection {
  /** Why the connection is gone, once it is. */
  lost(): ExchangeFailure | undefined;
  onClose(exchange: Http2Exchange, rstCode: number | undefined): void;
}

/** Where a stream has its exchange. */
const exchangeKey = Symbol("exchange");

type ExchangeStream = ClientHttp2Stream & { [exchangeKey]?: Http2Exchange | undefined };

/**
 * A call on one HTTP/2 stream. Every end of the stream ends the call, once. Must be created in the same turn of the event
 * loop as the stream.
 */
export class Http2Exchange implements ClientExchange, RunningCall<Http2Exchange> {
  previous: Http2Exchange | undefined;
  next: Http2Exchange | undefined;
  readonly #stream: ClientHttp2Stream;
  readonly #connection: ExchangeConnection;
  /** Undefined when the call is over. */
  #sink: ResponseSink | undefined;
  #isComplete = false;
  #isDrainWatched = false;

  constructor(stream: ExchangeStream, sink: ResponseSink, connection: ExchangeConnection) {
    this.#stream = stream;
    this.#sink = sink;
    this.#connection = connection;
    stream[exchangeKey] = this;
    stream.on("error", onError);
    stream.on("response", onResponse);
    stream.on("data", onData);
    stream.on("trailers", onTrailers);
    stream.push = push;
    stream.on("end", onEnd);
    stream.on("close", onClose);
  }

  write(chunk: Uint8Array): boolean {
    if (this.#sink === undefined) return true;
    if (!this.#isDrainWatched) {
      this.#isDrainWatched = true;
      this.#stream.on("drain", onDrain);
    }
    return this.#stream.write(chunk);
  }

  end(chunk?: Uint8Array): void {
    if (this.#sink === undefined) return;
    if (chunk === undefined) this.#stream.end();
    else this.#stream.end(chunk);
  }

  cancel(): void {
    this.#sink = undefined;
    resetStream(this.#stream);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  fail(failure: ExchangeFailure): void {
    const sink = this.#sink;
    if (sink === undefined) return;
    this.cancel();
    sink.onError(failure);
  }

  /** Whether nothing of the request is on the wire yet. */
  isUnsent(): boolean {
    return this.#stream.state?.state === NGHTTP2_STREAM_STATE_IDLE;
  }

  onResponse(headers: ResponseHeaders): void {
    this.#sink?.onHeaders(headers);
  }

  onData(chunk: Buffer): void {
    this.#sink?.onData(chunk);
  }

  onTrailers(trailers: IncomingHttpHeaders): void {
    this.#sink?.onTrailers(trailers);
  }

  onDrain(): void {
    this.#sink?.onDrain();
  }

  onReadableEnd(isClosed: boolean): void {
    if (!isClosed) this.#isComplete = true;
    // Node waits for the request's last byte before it emits "close", and the peer takes no further one.
    else if (!this.#isComplete && this.#stream.rstCode === NGHTTP2_NO_ERROR) this.fail(this.#resetFailure());
  }

  onEnd(): void {
    const sink = this.#sink;
    if (sink === undefined || !this.#isComplete) return;
    this.#sink = undefined;
    sink.onEnd();
    // The response came before the whole request was sent. (Node emits "end" before it knows that the stream is closed.)
    if (!this.#stream.writableFinished) this.cancel();
  }

  onStreamError(cause: Error): void {
    if (this.#isComplete) this.#deliverRest();
    else this.fail(this.#resetFailure(cause));
  }

  onClose(): void {
    if (this.#isComplete) this.#deliverRest();
    else this.fail(this.#resetFailure());
    this.#connection.onClose(this, this.#stream.rstCode);
  }

  /** A reset after a complete response is that response (RFC 9113, 8.1). */
  #deliverRest(): void {
    const sink = this.#sink;
    if (sink === undefined) return;
    for (let chunk = this.#stream.read(); chunk !== null; chunk = this.#stream.read()) sink.onData(chunk);
    if (this.#sink === undefined) return;
    this.#sink = undefined;
    sink.onEnd();
  }

  #resetFailure(cause?: Error): ExchangeFailure {
    const { rstCode } = this.#stream;
    // Also what nghttp2 says of streams above the last stream id of a GOAWAY (RFC 9113, 8.7).
    if (rstCode === NGHTTP2_REFUSED_STREAM) return { kind: "refused", http2Code: rstCode, isProcessed: false, cause };
    const lost = this.#connection.lost();
    if (lost !== undefined) return lost;
    const kind = cause === undefined || isStreamError(cause) ? "reset" : "disconnected";
    return { kind, http2Code: rstCode, isProcessed: true, cause };
  }
}

/**
 * Ends a stream early. The only function that does: `close` of node:http2 completes the request first (END_STREAM), and the
 * peer would take what it has for the whole.
 */
function resetStream(stream: ClientHttp2Stream): void {
  if (stream.destroyed) return;
  if (!stream.closed) {
    stream.end = dontEnd;
    stream.close(NGHTTP2_CANCEL);
  }
  // Received bytes that are not read would keep the stream, and by that the connection.
  setImmediate(destroy, stream);
}

function dontEnd(this: ClientHttp2Stream): ClientHttp2Stream {
  return this;
}

function destroy(stream: ClientHttp2Stream): void {
  stream.destroy();
}

/** Node's other errors of a stream are those of its session. */
function isStreamError(cause: Error): boolean {
  return "code" in cause && cause.code === "ERR_HTTP2_STREAM_ERROR";
}

// The same functions for all streams. V8 keeps streams through several collections: each closure would be kept too, with
// all that it refers to.
function onError(this: ExchangeStream, cause: Error): void {
  this[exchangeKey]?.onStreamError(cause);
}

function onResponse(this: ExchangeStream, headers: ResponseHeaders): void {
  this[exchangeKey]?.onResponse(headers);
}

function onData(this: ExchangeStream, chunk: Buffer): void {
  this[exchangeKey]?.onData(chunk);
}

function onTrailers(this: ExchangeStream, trailers: IncomingHttpHeaders): void {
  this[exchangeKey]?.onTrailers(trailers);
}

function onDrain(this: ExchangeStream): void {
  this[exchangeKey]?.onDrain();
}

function onEnd(this: ExchangeStream): void {
  this[exchangeKey]?.onEnd();
}

function onClose(this: ExchangeStream): void {
  const exchange = this[exchangeKey];
  this[exchangeKey] = undefined;
  exchange?.onClose();
}

/**
 * The readable side ends in either case: at END_STREAM, before the stream is closed, and at a reset, after. Nothing else
 * tells a complete response from one that was cut off.
 */
function push(this: ExchangeStream, chunk: unknown, encoding?: BufferEncoding): boolean {
  if (chunk === null) this[exchangeKey]?.onReadableEnd(this.closed);
  return Duplex.prototype.push.call(this, chunk, encoding);
}
