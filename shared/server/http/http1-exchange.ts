import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import { type PeerCertificate, TLSSocket } from "node:tls";
import { isTransportHeader } from "#shared/rpc";
import type { HeaderFields } from "#shared/unread";
import type { ExchangeListener, HookHeaders, ServerExchange } from "./exchange.ts";
import { peerOf } from "./peer.ts";

/** Header fields that clients of HTTP/1.1 accept in all: Node's own limit is 16 KiB, for the whole head. */
const MAX_HEADER_BYTES = 15 * 1024;
/** Of a body, to be written in one piece with its head. */
const MAX_JOINED_BYTES = 16_384;

/** By connection. */
const peers = new WeakMap<object, string>();

/** An exchange on a request and a response of HTTP/1.1. */
export class Http1Exchange implements ServerExchange {
  readonly httpVersion = "1.1";
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly maxHeaderBytes = MAX_HEADER_BYTES;
  readonly startedAtMs: number = performance.now();
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  #hookHeaders: HookHeaders | undefined = undefined;
  bytesRead = 0;
  bytesWritten = 0;
  #listener: ExchangeListener | undefined = undefined;
  #isReading = false;
  #watchesDrain = false;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.request = request;
    this.response = response;
    this.method = request.method ?? "";
    this.path = request.url ?? "";
    this.headers = request.headers;
  }

  get peer(): string {
    const { socket } = this.request;
    let peer = peers.get(socket);
    if (peer === undefined) {
      peer = peerOf(socket);
      peers.set(socket, peer);
    }
    return peer;
  }

  get peerCertificate(): PeerCertificate | undefined {
    const { socket } = this.request;
    const certificate = socket instanceof TLSSocket ? socket.getPeerCertificate() : undefined;
    return certificate == null || Object.keys(certificate).length === 0 ? undefined : certificate;
  }

  get state(): "open" | "ended" | "closed" {
    if (this.response.destroyed) return "closed";
    return this.response.writableEnded ? "ended" : "open";
  }

  get isHeadWritten(): boolean {
    return this.response.headersSent;
  }

  hasRoomFor(): boolean {
    // One connection has one response at a time.
    return true;
  }

  /** Adds what hooks of Fastify have set for the response. @returns true: hooks see what is written */
  hook(_response: object, headers: HookHeaders): boolean {
    this.#hookHeaders = headers;
    return true;
  }

  get needsDrain(): boolean {
    return this.response.writableNeedDrain;
  }

  listen(listener: ExchangeListener): void {
    const { request, response } = this;
    this.#listener = listener;
    response.on("close", () => this.#close());
    // The end of the connection shows at the response.
    request.on("error", ignore);
    if (response.destroyed) process.nextTick(() => this.#close());
  }

  read(): void {
    const { request } = this;
    if (this.#isReading) {
      request.resume();
      return;
    }
    this.#isReading = true;
    request.on("data", (chunk: Buffer) => {
      this.bytesRead += chunk.length;
      this.#listener?.onData(chunk);
    });
    request.on("end", () => this.#listener?.onEnd());
  }

  pause(): void {
    this.request.pause();
  }

  stop(): void {
    if (!this.#isReading) return;
    this.request.removeAllListeners("data");
    this.request.removeAllListeners("end");
    this.request.pause();
  }

  respond(status: number, headers: HeaderFields, body?: Uint8Array, trailers?: HeaderFields): void {
    const { response } = this;
    if (trailers !== undefined) {
      this.writeHead(status, headers);
      this.end(body, trailers);
      return;
    }
    this.bytesWritten += body?.length ?? 0;
    this.#writeHead(status, headers, body?.length ?? 0);
    if (body === undefined) response.end();
    else if (body.length > MAX_JOINED_BYTES) response.end(body);
    // Node writes the head and a string in one piece, and the head and bytes in two, which costs more than the copy.
    else response.end(Buffer.from(body.buffer, body.byteOffset, body.length).toString("latin1"), "latin1");
  }

  writeHead(status: number, headers: HeaderFields): void {
    this.#writeHead(status, headers, undefined);
  }

  write(chunk: Uint8Array): void {
    const { response } = this;
    this.bytesWritten += chunk.length;
    if (response.write(chunk) || this.#watchesDrain) return;
    this.#watchesDrain = true;
    response.on("drain", () => this.#listener?.onDrain());
  }

  end(chunk?: Uint8Array, trailers?: HeaderFields): void {
    const { response } = this;
    if (trailers !== undefined) response.addTrailers(toHeaders(trailers) as Record<string, string>);
    this.bytesWritten += chunk?.length ?? 0;
    if (chunk === undefined) response.end();
    else response.end(chunk);
  }

  respondError(): void {
    const { response } = this;
    // One of them may be what cannot be written, and would fail the end as well.
    for (const name of response.getHeaderNames()) response.removeHeader(name);
    response.statusCode = 500;
    response.end();
  }

  reset(): void {
    this.response.destroy();
  }

  #writeHead(status: number, headers: HeaderFields, length: number | undefined): void {
    const { request, response } = this;
    // Node would close the connection at once, and with it the response, while the client still sends (see linger.ts).
    if (!request.complete) response.shouldKeepAlive = true;
    for (const name in this.#hookHeaders) {
      const value = this.#hookHeaders[name];
      if (value !== undefined && headers[name] === undefined) response.setHeader(name, value);
    }
    const fields = toHeaders(headers);
    if (length !== undefined) fields["content-length"] = length;
    response.writeHead(status, fields);
  }

  #close(): void {
    const listener = this.#listener;
    this.#listener = undefined;
    const isFlushed = this.response.writableEnded && this.response.writableFinished;
    listener?.onClose({ kind: isFlushed ? "flushed" : "disconnected" });
  }
}

function ignore(): void {}

function toHeaders(fields: HeaderFields): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {};
  for (const name in fields) {
    const value = fields[name];
    if (value !== undefined && !isTransportHeader(name)) headers[name] = value as string | string[];
  }
  return headers;
}
