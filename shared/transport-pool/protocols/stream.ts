import type { IncomingHttpHeaders } from "node:http2";
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type StreamRequest, type StreamResponse } from "@connectrpc/connect";
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
import { ResponseMessages } from "./response-messages.ts";
import type { AcceptedStream, StreamFormat } from "./wire-format.ts";

export interface StreamOptions {
  readonly path: string;
  readonly format: StreamFormat;
  readonly readMaxBytes: number;
  readonly subchannel: Subchannel;
}

/**
 * Sends the request of a stream to one peer, and resolves with the response when its headers are there. Ends with the
 * request's signal.
 */
export function sendStream(request: StreamRequest, options: StreamOptions): Promise<StreamResponse> {
  const stream = new StreamExchange(request, options);
  void stream.begin();
  return stream.response;
}

class StreamExchange implements RequestHead, ResponseSink {
  readonly method = "POST";
  readonly path: string;
  headers: readonly string[] = [];
  readonly response: Promise<StreamResponse>;
  readonly #resolve: (response: StreamResponse) => void;
  readonly #reject: (reason: unknown) => void;
  readonly #request: StreamRequest;
  readonly #options: StreamOptions;
  readonly #call: OutgoingCall | undefined;
  readonly #onAbort = () => this.#fail(errorFromNode(this.#request.signal.reason));
  #exchange: ClientExchange | undefined;
  #accepted: AcceptedStream | undefined;
  #messages: ResponseMessages | undefined;
  #trailers: IncomingHttpHeaders | undefined;
  #onDrained: (() => void) | undefined;
  #isOver = false;

  constructor(request: StreamRequest, options: StreamOptions) {
    const { promise, resolve, reject } = Promise.withResolvers<StreamResponse>();
    this.path = options.path;
    this.response = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#request = request;
    this.#options = options;
    this.#call = request.contextValues.get(outgoingCallKey);
  }

  /** Never rejects. */
  async begin(): Promise<void> {
    const { signal, message, method } = this.#request;
    signal.addEventListener("abort", this.#onAbort);
    try {
      signal.throwIfAborted();
      this.headers = rawHeadersOf(this.#request, this.#options.format.omit);
      const messages = message[Symbol.asyncIterator]();
      // The one message of a server stream goes out together with the headers and the end of the request.
      const body = method.methodKind === "server_streaming" ? await this.#wholeBody(messages) : undefined;
      if (this.#isOver) return;
      const exchange = await this.#options.subchannel.open(this, this, signal);
      this.#exchange = exchange;
      if (this.#isOver) exchange.cancel();
      else if (body !== undefined) {
        countBytes(this.#call, body.length, 0);
        exchange.end(body);
      } else await this.#send(messages, exchange);
    } catch (error) {
      this.#fail(errorFromNode(error));
    }
  }

  onHeaders(headers: ResponseHeaders): void {
    try {
      const { format, readMaxBytes } = this.#options;
      const accepted = format.accept(headers);
      const messages = new ResponseMessages({
        stream: accepted,
        parse: format.parse,
        readMaxBytes,
        flow: { pause: () => this.#exchange?.pause(), resume: () => this.#exchange?.resume() },
        onReturn: () => this.#fail(new ConnectError("the reader has left the stream", Code.Canceled)),
      });
      this.#accepted = accepted;
      this.#messages = messages;
      const { service, method } = this.#request;
      const { header, trailer } = accepted;
      this.#resolve({ stream: true, service, method, header, trailer, message: messages });
    } catch (error) {
      this.#fail(error);
    }
  }

  onData(chunk: Buffer): void {
    countBytes(this.#call, 0, chunk.length);
    try {
      this.#messages?.onData(chunk);
    } catch (error) {
      this.#fail(error);
    }
  }

  onTrailers(trailers: IncomingHttpHeaders): void {
    this.#trailers = trailers;
  }

  onDrain(): void {
    this.#onDrained?.();
  }

  onEnd(): void {
    if (this.#isOver) return;
    this.#over();
    if (this.#accepted === undefined) this.#reject(new ConnectError("protocol error: missing headers", Code.Internal));
    this.#messages?.onEnd(this.#trailers);
  }

  onError(failure: ExchangeFailure): void {
    this.#fail(failureError(failure, this.#call?.deadlineMs));
  }

  async #send(messages: AsyncIterator<Message>, exchange: ClientExchange): Promise<void> {
    const { format } = this.#options;
    for (;;) {
      const { done, value } = await messages.next();
      if (this.#isOver) return;
      if (done === true) {
        exchange.end();
        return;
      }
      const frame = format.serialize(value);
      countBytes(this.#call, frame.length, 0);
      if (!exchange.write(frame)) await this.#drained();
      if (this.#isOver) return;
    }
  }

  /** More than one message of a server stream is for the peer to refuse, for which two are enough. */
  async #wholeBody(messages: AsyncIterator<Message>): Promise<Uint8Array> {
    const { format } = this.#options;
    const frames: Uint8Array[] = [];
    for (;;) {
      const { done, value } = await messages.next();
      if (done === true) break;
      frames.push(format.serialize(value));
      if (frames.length < 2) continue;
      await messages.return?.();
      break;
    }
    const [first] = frames;
    return frames.length === 1 && first !== undefined ? first : Buffer.concat(frames);
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#onDrained = resolve;
    });
  }

  #fail(reason: unknown): void {
    if (this.#isOver) return;
    this.#over();
    this.#exchange?.cancel();
    this.#reject(reason);
    this.#messages?.fail(reason);
  }

  #over(): void {
    this.#isOver = true;
    this.#request.signal.removeEventListener("abort", this.#onAbort);
    this.#onDrained?.();
  }
}
