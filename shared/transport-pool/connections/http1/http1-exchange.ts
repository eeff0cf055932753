import type { IncomingHttpHeaders } from "node:http";
import { Readable } from "node:stream";
import type { Dispatcher } from "undici";
import type { ClientExchange, ExchangeFailure, RequestHead, ResponseHeaders, ResponseSink } from "../exchange.ts";

/** The connections of an exchange. */
export interface Http1Exchanges {
  dispatch(request: Dispatcher.DispatchOptions, exchange: Http1Exchange): void;
  /** A response has begun. */
  onServed(): void;
  onClose(exchange: Http1Exchange): void;
  /** Whether this side ends the connections. */
  isClosed(): boolean;
}

/**
 * A call over HTTP/1.1 by undici. The request is sent with its first byte, or with its end: one that comes as a whole has
 * a length, any other is chunked.
 */
export class Http1Exchange implements ClientExchange, Dispatcher.DispatchHandler {
  readonly #head: RequestHead;
  readonly #exchanges: Http1Exchanges;
  /** Undefined when the call is over. */
  #sink: ResponseSink | undefined;
  #body: Readable | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  #isClosed = false;

  constructor(head: RequestHead, sink: ResponseSink, exchanges: Http1Exchanges) {
    this.#head = head;
    this.#sink = sink;
    this.#exchanges = exchanges;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#sink === undefined) return true;
    if (this.#body === undefined) {
      this.#body = new Readable({ read: () => this.#sink?.onDrain() });
      this.#dispatch(this.#body);
    }
    return this.#body.push(chunk);
  }

  end(chunk?: Uint8Array): void {
    if (this.#sink === undefined) return;
    if (this.#body === undefined) this.#dispatch(chunk ?? null);
    else {
      if (chunk !== undefined) this.#body.push(chunk);
      this.#body.push(null);
    }
  }

  cancel(): void {
    this.#sink = undefined;
    // Of a request that is not sent yet, `onRequestStart` says so.
    this.#controller?.abort(new Error("the call has ended"));
    this.#close();
  }

  /** Fails a call whose request is not sent yet. */
  fail(failure: ExchangeFailure): void {
    const sink = this.#sink;
    this.cancel();
    sink?.onError(failure);
  }

  isUnsent(): boolean {
    return this.#controller === undefined;
  }

  pause(): void {
    this.#controller?.pause();
  }

  resume(): void {
    this.#controller?.resume();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#sink === undefined) controller.abort(new Error("the call has ended"));
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) return;
    this.#exchanges.onServed();
    this.#sink?.onHeaders(normalized(headers, status));
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#sink?.onData(chunk);
  }

  onResponseEnd(_controller: Dispatcher.DispatchController, trailers: IncomingHttpHeaders): void {
    const sink = this.#sink;
    this.#sink = undefined;
    this.#close();
    sink?.onTrailers(trailers);
    sink?.onEnd();
  }

  onResponseError(_controller: Dispatcher.DispatchController, cause: Error): void {
    const sink = this.#sink;
    this.#sink = undefined;
    this.#close();
    sink?.onError(this.#failure(cause));
  }

  #dispatch(body: Uint8Array | Readable | null): void {
    const { method, path, headers } = this.#head;
    this.#exchanges.dispatch({ method, path, headers: headers as string[], body, blocking: false }, this);
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#body?.destroy();
    this.#exchanges.onClose(this);
  }

  #failure(cause: Error): ExchangeFailure {
    if (this.#exchanges.isClosed()) return { kind: "closed", isProcessed: true };
    const code = "code" in cause ? cause.code : undefined;
    if (code === "UND_ERR_INVALID_ARG") return { kind: "protocol", isProcessed: true, cause };
    if (this.isUnsent()) return { kind: "connect", isProcessed: false, cause };
    return { kind: "disconnected", isProcessed: true, cause };
  }
}

/** As node:http has them: values that came under one name joined, without blanks around them. */
function normalized(headers: IncomingHttpHeaders, status: number): ResponseHeaders {
  const result: ResponseHeaders = {};
  result[":status"] = status;
  for (const name in headers) {
    const value = headers[name];
    if (typeof value === "string") result[name] = value.trim();
    else result[name] = name === "set-cookie" ? value : value?.join(", ");
  }
  return result;
}
