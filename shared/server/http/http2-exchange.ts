import { constants, type Http2ServerResponse, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import type { PeerCertificate } from "node:tls";
import { isTransportHeader, validateField } from "#shared/rpc";
import type { HeaderFields } from "#shared/unread";
import type { ExchangeListener, HookHeaders, ServerExchange } from "./exchange.ts";
import type { Http2Connection } from "./http2-connection.ts";

/** Without, Node may emit "close" before it knows that all was written. */
const WITH_TRAILERS = { waitForTrailers: true };
const TRAILERS_ONLY = { endStream: true };
const NO_FIELDS: HeaderFields = {};

const exchangeKey = Symbol("exchange");

type ServedStream = ServerHttp2Stream & { [exchangeKey]?: Http2Exchange | undefined };

/** A response of Node's compatibility layer, where hooks of Fastify have seen the request. */
interface Hooked {
  readonly response: Http2ServerResponse;
  readonly headers: HookHeaders;
}

/** An exchange on a stream of HTTP/2, past Node's compatibility layer: two objects and a dozen listeners less. */
export class Http2Exchange implements ServerExchange {
  readonly httpVersion = "2";
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly startedAtMs: number = performance.now();
  readonly stream: ServerHttp2Stream;
  readonly #connection: Http2Connection;
  readonly flags: number;
  readonly rawHeaders: readonly string[];
  #hooked: Hooked | undefined = undefined;
  #isOpen = true;
  bytesRead = 0;
  bytesWritten = 0;
  #listener: ExchangeListener | undefined = undefined;
  #isReading = false;
  #isEnded = false;
  #watchesAborts = false;
  #watchesDrain = false;
  #trailers: HeaderFields = NO_FIELDS;
  #unsentBytes = 0;

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    connection: Http2Connection,
    flags: number,
    rawHeaders: readonly string[],
  ) {
    this.stream = stream;
    this.headers = headers;
    this.method = headers[":method"] ?? "";
    this.path = headers[":path"] ?? "";
    this.#connection = connection;
    this.flags = flags;
    this.rawHeaders = rawHeaders;
    connection.opened();
  }

  get peer(): string {
    return this.#connection.peer;
  }

  get peerCertificate(): PeerCertificate | undefined {
    return this.#connection.peerCertificate;
  }

  hasRoomFor(bytes: number): boolean {
    return this.#connection.hasRoomFor(bytes);
  }

  get maxHeaderBytes(): number {
    return this.#connection.maxHeaderBytes;
  }

  get state(): "open" | "ended" | "closed" {
    if (this.stream.destroyed || this.stream.closed) return "closed";
    return this.#isEnded ? "ended" : "open";
  }

  get isHeadWritten(): boolean {
    return this.stream.headersSent;
  }

  /**
   * Adds what hooks of Fastify have set for the response.
   *
   * @returns false for a response that hooks have wrapped, or watch: what is written to the stream passes them by
   */
  hook(response: Http2ServerResponse, headers: HookHeaders): boolean {
    // One of the listeners is the server's own.
    const isWatched = response.listenerCount("finish") > 0 || response.listenerCount("close") > 1;
    const isWrapped = Object.hasOwn(response, "writeHead") || Object.hasOwn(response, "end");
    if (isWatched || isWrapped || !response.sendDate) return false;
    this.#hooked = { response, headers };
    return true;
  }

  get needsDrain(): boolean {
    return this.stream.writableNeedDrain;
  }

  listen(listener: ExchangeListener): void {
    const stream: ServedStream = this.stream;
    this.#listener = listener;
    stream[exchangeKey] = this;
    // What has happened to a stream shows when it closes.
    stream.on("error", ignore);
    stream.on("close", onClose);
    if (stream.destroyed) process.nextTick(onClose.bind(stream));
  }

  read(): void {
    const { stream } = this;
    if (this.#isReading) {
      stream.resume();
      return;
    }
    this.#isReading = true;
    stream.on("data", onData);
    stream.on("end", onEnd);
  }

  pause(): void {
    const { stream } = this;
    stream.pause();
    // A stream that was reset with NO_ERROR, with chunks that wait to be read, does not close before they are.
    if (this.#watchesAborts) return;
    this.#watchesAborts = true;
    stream.on("aborted", onAborted);
  }

  stop(): void {
    if (!this.#isReading) return;
    this.stream.off("data", onData);
    this.stream.off("end", onEnd);
    this.stream.pause();
  }

  respond(status: number, headers: HeaderFields, body?: Uint8Array, trailers: HeaderFields = NO_FIELDS): void {
    const { stream } = this;
    const list = this.#head(status, headers);
    if (body === undefined) {
      addFields(list, trailers);
      this.#isEnded = true;
      stream.respond(list as string[], TRAILERS_ONLY);
      if (!stream.readableEnded) setImmediate(resetIfUnread, stream);
      return;
    }
    if (trailers === NO_FIELDS) list.push("content-length", body.length);
    this.#respond(list);
    this.end(body, trailers);
  }

  writeHead(status: number, headers: HeaderFields): void {
    this.#respond(this.#head(status, headers));
  }

  write(chunk: Uint8Array): void {
    const { stream } = this;
    this.bytesWritten += chunk.length;
    if (stream.write(chunk) || this.#watchesDrain) return;
    this.#watchesDrain = true;
    stream.on("drain", onDrain);
  }

  end(chunk?: Uint8Array, trailers: HeaderFields = NO_FIELDS): void {
    const { stream } = this;
    this.#isEnded = true;
    if (this.#hooked === undefined) this.#trailers = trailers;
    else this.#hooked.response.addTrailers(toTrailers(trailers));
    if (chunk === undefined) {
      stream.end();
      return;
    }
    this.bytesWritten += chunk.length;
    this.#unsentBytes = chunk.length;
    this.#connection.unsentBytes += chunk.length;
    stream.end(chunk);
  }

  respondError(): void {
    this.#isEnded = true;
    this.stream.respond({ ":status": 500 }, TRAILERS_ONLY);
  }

  reset(): void {
    const { stream } = this;
    if (stream.closed) return;
    stream.close(constants.NGHTTP2_CANCEL);
  }

  #respond(list: (string | number)[]): void {
    const { stream } = this;
    stream.respond(list as string[], WITH_TRAILERS);
    if (this.#hooked === undefined) stream.on("wantTrailers", sendTrailers);
  }

  #head(status: number, headers: HeaderFields): (string | number)[] {
    const list: (string | number)[] = [":status", status];
    addFields(list, headers);
    if (this.#hooked !== undefined) {
      addHookFields(list, this.#hooked.headers, headers);
      // Fastify reads the status later, and its layer does not see what is written here.
      this.#hooked.response.statusCode = status;
    }
    return list;
  }

  /** For the listener of each event, as are those after it. */
  data(chunk: Buffer): void {
    this.bytesRead += chunk.length;
    this.#listener?.onData(chunk);
  }

  ended(): void {
    const { stream } = this;
    // A reset ends the readable side too, and with NO_ERROR without an error.
    if (stream.closed || stream.destroyed) this.#close();
    else this.#listener?.onEnd();
  }

  drained(): void {
    this.#listener?.onDrain();
  }

  aborted(): void {
    this.#close();
    // Not now, in the middle of a reset of our own, which would not be sent.
    setImmediate(destroy, this.stream);
  }

  closed(): void {
    this.#connection.unsentBytes -= this.#unsentBytes;
    this.#unsentBytes = 0;
    this.settle();
    this.#close();
  }

  /** Lets Node's compatibility layer serve the stream. */
  detach(): void {
    const { stream } = this;
    stream.once("close", () => this.settle());
    // The compatibility layer waits for trailers after each body.
    stream.once("wantTrailers", resetUnread);
    stream.once("finish", resetUnreadIfSent);
  }

  /** The stream has closed. */
  settle(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#connection.closed();
  }

  trailersWanted(): void {
    const { stream } = this;
    stream.sendTrailers(toTrailers(this.#trailers));
    // Otherwise the unread part of the body would stay, taken off the connection's window (RFC 9113, 8.1).
    if (!stream.readableEnded) setImmediate(resetIfUnread, stream);
  }

  #close(): void {
    const listener = this.#listener;
    if (listener === undefined) return;
    this.#listener = undefined;
    const { stream } = this;
    if (this.#isEnded && stream.writableFinished) listener.onClose(FLUSHED);
    else if (stream.session?.destroyed !== false && stream.rstCode === constants.NGHTTP2_NO_ERROR) {
      listener.onClose(DISCONNECTED);
    } else listener.onClose({ kind: "reset", http2Code: stream.rstCode });
  }
}

const FLUSHED = { kind: "flushed" } as const;
const DISCONNECTED = { kind: "disconnected" } as const;

// The same for all: an HTTP/2 stream's lists of listeners outlive the stream, and what they refer to would as well.
function ignore(): void {}

function onData(this: ServedStream, chunk: Buffer): void {
  this[exchangeKey]?.data(chunk);
}

function onEnd(this: ServedStream): void {
  this[exchangeKey]?.ended();
}

function onDrain(this: ServedStream): void {
  this[exchangeKey]?.drained();
}

function onAborted(this: ServedStream): void {
  this[exchangeKey]?.aborted();
}

function onClose(this: ServedStream): void {
  const exchange = this[exchangeKey];
  this[exchangeKey] = undefined;
  exchange?.closed();
}

function sendTrailers(this: ServedStream): void {
  this[exchangeKey]?.trailersWanted();
}

/** After a turn of the event loop in which Node sends the trailers: a reset would discard them. */
/** Resets the stream of a response whose last frame is on its way, when its request is not read whole (RFC 9113, 8.1). */
export function resetUnread(this: ServerHttp2Stream): void {
  if (!this.readableEnded) setImmediate(() => setImmediate(resetIfUnread, this));
}

/** The response may be finished before its trailers, with END_STREAM, are sent. */
function resetUnreadIfSent(this: ServerHttp2Stream): void {
  if (this.state.localClose === 1) resetUnread.call(this);
}

function destroy(stream: ServerHttp2Stream): void {
  stream.destroy();
}

function resetIfUnread(stream: ServerHttp2Stream): void {
  if (!stream.readableEnded && !stream.closed) stream.close(constants.NGHTTP2_NO_ERROR);
}

function addFields(list: (string | number)[], fields: HeaderFields): void {
  for (const name in fields) {
    const value = fields[name];
    if (value === undefined || isTransportHeader(name)) continue;
    if (typeof value === "string") list.push(name, value);
    else for (const item of value) list.push(name, item);
  }
}

function addHookFields(list: (string | number)[], hooks: HookHeaders, own: HeaderFields): void {
  for (const name in hooks) {
    const value = hooks[name];
    if (value === undefined || own[name] !== undefined || isTransportHeader(name)) continue;
    for (const item of Array.isArray(value) ? value : [value]) {
      validateField(name, String(item));
      list.push(name, item);
    }
  }
}

function toTrailers(fields: HeaderFields): Record<string, string | string[]> {
  const trailers: Record<string, string | string[]> = {};
  for (const name in fields) {
    const value = fields[name];
    if (value !== undefined && !isTransportHeader(name)) trailers[name] = value as string | string[];
  }
  return trailers;
}
