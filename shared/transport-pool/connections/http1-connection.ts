import type { Socket } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Http1Head } from "./http1-head.ts";
import { type Http1AnswerSink, Http1Reader } from "./http1-reader.ts";
import { encodeHttp1Request } from "./http1-request.ts";
import type { SentUnary, UnaryExchange } from "./unary-stream.ts";
import { writeTogether } from "./write-together.ts";

export interface Http1ConnectionOptions {
  /** What requests name as `Host`. */
  readonly host: string;
  /** One that has had no calls for so long is closed. */
  readonly idleTimeoutMs: number;
  /** It can take the next call. */
  onFree(connection: Http1Connection): void;
  /** It takes no calls any more. Once, and before its call fails. */
  onUnusable(connection: Http1Connection): void;
  /** What a call fails with whose request has not been written when the connection is lost. */
  notSent(error: Error): ConnectError;
}

/** Between two probes of TCP's own, as of Node's agent. */
const TCP_KEEP_ALIVE_MS = 1_000;
/** By so much a connection is given up before its peer says that it will be, as Node's agent does. */
const KEPT_MARGIN_MS = 1_000;

/**
 * A connection that carries unary calls of HTTP/1.1, one after the other. Whatever becomes of it, its call ends: with
 * UNAVAILABLE when the connection is lost under it, as over HTTP/2. A call that ends early takes the connection with it.
 */
export class Http1Connection implements Http1AnswerSink {
  readonly #options: Http1ConnectionOptions;
  readonly #reader = new Http1Reader(this);
  #socket: Socket | undefined;
  #exchange: UnaryExchange | undefined;
  /** The request, while it waits to be written. What comes before it is no answer to it. */
  #unwritten: Uint8Array | undefined;
  #isKept = true;
  #isUsable = true;
  #idleMs: number;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor(options: Http1ConnectionOptions) {
    this.#options = options;
    this.#idleMs = options.idleTimeoutMs;
  }

  /** @param socket connected, and read by `received` */
  attach(socket: Socket): void {
    this.#socket = socket;
    if (!this.#isUsable) socket.destroy();
    socket.setKeepAlive(true, TCP_KEEP_ALIVE_MS);
    socket.on("error", (error) => this.#lose(error));
    socket.on("end", () => this.#ended());
    socket.on("close", () => this.#lose(new Error("the peer closed the connection")));
  }

  /** What the peer has sent; done with when it returns. */
  received(bytes: Buffer): void {
    try {
      this.#reader.read(bytes);
    } catch (error) {
      this.#lose(error as Error);
    }
  }

  /** Whether there is no call on it, and it takes one. */
  isFree(): boolean {
    return this.#isUsable && this.#exchange === undefined;
  }

  /**
   * Only when it is free.
   *
   * @param isOneOfMany there may be more to send in this turn of the event loop, on other connections
   * @throws TypeError when the request cannot be written; then nothing was sent
   */
  send(exchange: UnaryExchange, isOneOfMany: boolean): SentUnary {
    const request = encodeHttp1Request(exchange, this.#options.host);
    this.#exchange = exchange;
    this.#unwritten = request;
    this.#socket?.ref();
    if (isOneOfMany) writeTogether(this);
    else this.writeWaiting();
    return new SentCall(this, exchange);
  }

  /** Its call may have ended since, or be about to hear that its connection is lost. */
  writeWaiting(): void {
    const socket = this.#socket;
    const request = this.#unwritten;
    if (request === undefined || socket === undefined || socket.destroyed) return;
    this.#unwritten = undefined;
    this.#reader.begin(this.#exchange?.method === "HEAD");
    socket.write(request);
  }

  /** Waits for a next call. */
  rest(): void {
    // Idle connections do not hold the process.
    this.#socket?.unref();
    if (this.#idleTimer === undefined) this.#idleTimer = setTimeout(endIdle, this.#idleMs, this).unref();
    else this.#idleTimer.refresh();
  }

  /** Takes no further call. */
  close(): void {
    this.#isKept = false;
    if (this.isFree()) this.drop();
  }

  carries(exchange: UnaryExchange): boolean {
    return this.#exchange === exchange;
  }

  /** Its call is over, or there is none. */
  drop(): void {
    this.#exchange = undefined;
    this.#lose(undefined);
  }

  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
  }

  onHead({ headers, isKept, keptMs }: Http1Head): void {
    if (!isKept) this.#isKept = false;
    if (keptMs !== undefined) this.#keepFor(keptMs - KEPT_MARGIN_MS);
    try {
      this.#exchange?.onHeaders(headers);
    } catch (error) {
      this.#fail(error);
    }
  }

  onBody(bytes: Buffer): void {
    try {
      this.#exchange?.onData(bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  onComplete(isLast: boolean): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    this.#exchange = undefined;
    const socket = this.#socket;
    // An answer may come before the peer has the whole request.
    if (this.#isKept && isLast && socket?.writableLength === 0) {
      if (socket.isPaused()) socket.resume();
      this.#options.onFree(this);
    } else {
      this.#lose(undefined);
    }
    try {
      exchange.onEnd();
    } catch (error) {
      exchange.onError(error);
    }
  }

  /** Undefined: nobody has to be told. */
  #lose(error: Error | undefined): void {
    const exchange = this.#exchange;
    const isUnsent = this.#unwritten !== undefined;
    this.#exchange = undefined;
    this.#unwritten = undefined;
    if (this.#isUsable) {
      this.#isUsable = false;
      clearTimeout(this.#idleTimer);
      this.#options.onUnusable(this);
    }
    this.#socket?.destroy();
    if (error === undefined) return;
    // A ConnectError says why this side has ended the connection: then the call is not to go another way.
    const isToResend = isUnsent && !(error instanceof ConnectError);
    exchange?.onError(isToResend ? this.#options.notSent(error) : connectionLost(error));
  }

  /** The answer is bad, and what is left of it does not matter. */
  #fail(error: unknown): void {
    const exchange = this.#exchange;
    this.drop();
    exchange?.onError(error);
  }

  #ended(): void {
    this.#isKept = false;
    if (!this.#reader.end()) this.#lose(new Error("the peer closed the connection"));
  }

  #keepFor(ms: number): void {
    if (ms <= 0) this.#isKept = false;
    const idleMs = Math.min(ms, this.#options.idleTimeoutMs);
    if (idleMs === this.#idleMs) return;
    this.#idleMs = idleMs;
    clearTimeout(this.#idleTimer);
    this.#idleTimer = undefined;
  }
}

function endIdle(connection: Http1Connection): void {
  if (connection.isFree()) connection.drop();
}

/** A call that had the connection, and may have it no more. */
class SentCall implements SentUnary {
  readonly #connection: Http1Connection;
  readonly #exchange: UnaryExchange;

  constructor(connection: Http1Connection, exchange: UnaryExchange) {
    this.#connection = connection;
    this.#exchange = exchange;
  }

  cancel(): void {
    if (this.#connection.carries(this.#exchange)) this.#connection.drop();
  }

  pause(): void {
    if (this.#connection.carries(this.#exchange)) this.#connection.pause();
  }

  resume(): void {
    if (this.#connection.carries(this.#exchange)) this.#connection.resume();
  }
}

/** Of a ConnectError, this side has ended the connection for that reason. */
function connectionLost(error: Error): ConnectError {
  if (error instanceof ConnectError) return error;
  return new ConnectError(`connection lost: ${error.message}`, Code.Unavailable, undefined, undefined, error);
}
