import type { IncomingHttpHeaders } from "node:http2";
import type { UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import { unreadBytes } from "#shared/unread";
import { abortSignalOf, type EndSignal } from "../call/lazy-abort-signal.ts";
import { countBytes, type OutgoingCall, outgoingCallKey } from "../call/outgoing-call.ts";
import type {
  ClientExchange,
  ExchangeFailure,
  RequestHead,
  ResponseHeaders,
  ResponseSink,
} from "../connections/exchange.ts";
import { errorFromNode } from "../connections/node-errors.ts";
import type { Subchannel } from "../connections/subchannel.ts";
import { failureError } from "./failure-error.ts";
import { rawHeadersOf } from "./request-headers.ts";
import type { UnaryFormat, UnaryReader } from "./wire-format.ts";

/** Sends a unary request to one peer. Ends with the request's signal. */
export function sendUnary(
  request: UnaryRequest,
  path: string,
  format: UnaryFormat,
  subchannel: Subchannel,
): Promise<UnaryResponse> {
  return new Promise((resolve, reject) => {
    new UnaryExchange(request, path, format, resolve, reject).begin(subchannel);
  });
}

const NO_HEADERS: readonly string[] = [];

/** One object, where closures would be a dozen. */
class UnaryExchange implements RequestHead, ResponseSink {
  readonly method: string;
  readonly path: string;
  headers: readonly string[] = NO_HEADERS;
  readonly #request: UnaryRequest;
  readonly #format: UnaryFormat;
  readonly #call: OutgoingCall | undefined;
  readonly #signal: EndSignal;
  readonly #resolve: (response: UnaryResponse) => void;
  readonly #reject: (reason: unknown) => void;
  readonly #onAbort = () => this.#fail(errorFromNode(this.#signal.reason));
  #reader: UnaryReader | undefined;
  #body: Uint8Array | undefined;
  #exchange: ClientExchange | undefined;
  #trailers: IncomingHttpHeaders | undefined;
  #isOver = false;

  constructor(
    request: UnaryRequest,
    path: string,
    format: UnaryFormat,
    resolve: (response: UnaryResponse) => void,
    reject: (reason: unknown) => void,
  ) {
    this.method = request.requestMethod;
    this.path = path;
    this.#request = request;
    this.#format = format;
    this.#call = request.contextValues.get(outgoingCallKey);
    this.#signal = abortSignalOf(request);
    this.#resolve = resolve;
    this.#reject = reject;
  }

  begin(subchannel: Subchannel): void {
    const signal = this.#signal;
    const { message } = this.#request;
    signal.addEventListener("abort", this.#onAbort);
    try {
      signal.throwIfAborted();
      this.headers = rawHeadersOf(this.#request, this.#format.omit);
      this.#reader = this.#format.read(unreadBytes(message) !== undefined);
      this.#body = this.#format.serialize(message);
      const opening = subchannel.open(this, this, signal);
      if (opening instanceof Promise) {
        opening.then(
          (exchange) => this.#opened(exchange),
          (reason) => this.#fail(errorFromNode(reason)),
        );
      } else this.#opened(opening);
    } catch (error) {
      this.#fail(errorFromNode(error));
    }
  }

  onHeaders(headers: ResponseHeaders): void {
    try {
      this.#reader?.onHeaders(headers);
    } catch (error) {
      this.#fail(error);
    }
  }

  onData(chunk: Buffer): void {
    countBytes(this.#call, 0, chunk.length);
    try {
      if (!this.#isOver) this.#reader?.onData(chunk);
    } catch (error) {
      this.#fail(error);
    }
  }

  onTrailers(trailers: IncomingHttpHeaders): void {
    this.#trailers = trailers;
  }

  onDrain(): void {
    // The request is written at once.
  }

  onEnd(): void {
    if (this.#isOver) return;
    try {
      const response = this.#reader?.onEnd(this.#trailers);
      if (response instanceof Promise) {
        response.then(
          (one) => this.#succeed(one),
          (reason) => this.#fail(reason),
        );
      } else if (response !== undefined) this.#succeed(response);
    } catch (error) {
      this.#fail(error);
    }
  }

  onError(failure: ExchangeFailure): void {
    this.#fail(failureError(failure, this.#call?.deadlineMs));
  }

  #opened(exchange: ClientExchange): void {
    this.#exchange = exchange;
    if (this.#isOver) exchange.cancel();
    else {
      countBytes(this.#call, this.#body?.length ?? 0, 0);
      exchange.end(this.#body);
    }
    // May live as long as its stream.
    this.#body = undefined;
  }

  #succeed(response: UnaryResponse): void {
    if (this.#isOver) return;
    this.#over();
    this.#resolve(response);
  }

  #fail(reason: unknown): void {
    if (this.#isOver) return;
    this.#over();
    this.#exchange?.cancel();
    this.#reject(reason);
  }

  #over(): void {
    this.#isOver = true;
    this.#signal.removeEventListener("abort", this.#onAbort);
  }
}
