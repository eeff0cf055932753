import { getEventListeners } from "node:events";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type ContextValues, type HandlerContext, type StreamRequest } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import type { RunningCall } from "#shared/lifecycle";
import { LazyHeaders } from "#shared/unread";
import type { StreamInfo } from "../call-info.ts";
import { hangUpError } from "../hang-up.ts";
import { dropUnread, late, OVER, replace } from "../short-path/endings.ts";
import type { UnaryDialect } from "../short-path/ordinary.ts";
import { asConnectError, initialHeader, initialTrailer, writeHead, writeTrailers } from "../unary/answer.ts";
import { isClosed, LAST_WORDS_MS } from "../write-response.ts";
import { Inbox } from "./inbox.ts";
import { Outbox } from "./outbox.ts";
import { sendMessages, Unwritable } from "./send-messages.ts";
import type { StreamMethod } from "./stream-method.ts";

export interface StreamCallOptions {
  readonly method: StreamMethod;
  readonly dialect: UnaryDialect;
  readonly request: Http2ServerRequest;
  readonly response: Http2ServerResponse;
  readonly values: ContextValues;
  /** Undefined: it may take for ever. */
  readonly timeoutMs: number | undefined;
  readonly readMaxBytes: number;
  /** What the caller can read. */
  readonly compression: Compression | null;
  readonly compressMinBytes: number;
  readonly shutdown: AbortSignal;
  /** Adds what hooks have set for the answer. */
  addHeaders(): void;
  /** Ends an answer that cannot be written. @returns what it tells */
  giveUp(error: unknown): ConnectError;
  /** Nothing more happens. */
  onEnd(answeredError: () => ConnectError | undefined): void;
}

/** One streaming call on the short path: running → answered → over. */
export class StreamCall implements StreamInfo, RunningCall<StreamCall> {
  readonly context: HandlerContext;
  previous: StreamCall | undefined = undefined;
  next: StreamCall | undefined = undefined;
  readonly #options: StreamCallOptions;
  readonly #controller = new AbortController();
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  #state: "running" | "answered" | "over" = "running";
  #timer: NodeJS.Timeout | undefined;
  #answeredError: ConnectError | undefined;

  constructor(options: StreamCallOptions) {
    const { method, dialect, request, response, values, timeoutMs, compression } = options;
    this.#options = options;
    const endsAtMs = Date.now() + (timeoutMs ?? 0);
    this.context = {
      service: method.method.parent,
      method: method.method,
      protocolName: dialect.protocol,
      requestMethod: "POST",
      url: method.url,
      timeoutMs: () => (timeoutMs === undefined ? undefined : Math.trunc(endsAtMs) - Date.now()),
      signal: this.#controller.signal,
      requestHeader: new LazyHeaders(request.headers),
      responseHeader: new LazyHeaders(initialHeader(dialect, compression)),
      responseTrailer: new LazyHeaders(initialTrailer(dialect)),
      values,
    };
    if (timeoutMs !== undefined) this.#timer = setTimeout(late, timeoutMs, this);
    this.#inbox = new Inbox({
      stream: request.stream,
      serialization: method.input,
      readMaxBytes: options.readMaxBytes,
      shutdown: options.shutdown,
    });
    this.#outbox = new Outbox(response);
  }

  /** Never rejects. */
  async run(): Promise<void> {
    try {
      await this.#answer();
    } catch (error) {
      const failure = this.#options.giveUp(error);
      this.#abort(OVER);
      this.#end(() => failure);
    }
  }

  /** Ends it early: what its handler does is lost on the caller, who is told the reason. */
  abort(reason: unknown): void {
    if (this.#state !== "running") return;
    this.#inbox.fail(reason);
    this.#abort(reason);
  }

  /** The response has closed, and nothing more can be written. */
  closed(): void {
    if (this.#state === "running") {
      this.abort(hangUpError());
      this.#outbox.close();
    } else if (this.#state === "answered") {
      const isComplete = this.#options.response.stream.writableFinished;
      this.#end(isComplete ? () => this.#answeredError : hangUpError);
    }
    // For what a handler has left reading.
    this.#inbox.fail(hangUpError());
  }

  /** The deadline has passed. */
  late(): void {
    // A caller that does not read its answer has it in our memory.
    this.#timer = setTimeout(dropUnread, LAST_WORDS_MS, this.#options.response);
    // What the caller has sent by then may still be read, as with Connect's handlers.
    if (this.#state === "running") this.#abort(new ConnectError("the operation timed out", Code.DeadlineExceeded));
  }

  async #answer(): Promise<void> {
    const { context } = this;
    const { method } = this.#options;
    const { responseHeader, responseTrailer } = context;
    try {
      const { message, header, trailer } = await method.invoke(this.#request());
      if (header !== responseHeader) replace(responseHeader, header);
      const isAllSent = await sendMessages(message as AsyncIterable<Message>, {
        isGone: () => isClosed(this.#options.response),
        begin: () => this.#writeHead(),
        add: (one) => this.#add(one),
      });
      if (!isAllSent) {
        this.abort(hangUpError());
        this.#end(hangUpError);
        return;
      }
      if (trailer !== responseTrailer) replace(responseTrailer, trailer);
      // An abort costs as much as the rest of the context; nobody has to be told where nobody listens.
      if (getEventListeners(context.signal, "abort").length > 0) this.#abort(OVER);
    } catch (error) {
      if (error instanceof Unwritable) throw error.cause;
      const failure = asConnectError(error);
      this.#answeredError = failure;
      this.#abort(error);
      setTrailerStatus(responseTrailer, failure);
    }
    this.#finish();
  }

  #request(): StreamRequest {
    const { service, method, requestMethod, url, signal, requestHeader, values } = this.context;
    return {
      stream: true,
      message: this.#inbox,
      service,
      method: method as StreamRequest["method"],
      requestMethod,
      url,
      signal,
      header: requestHeader,
      contextValues: values,
    };
  }

  /** @returns when there is room for the next, if there is none */
  #add(message: Message): Promise<void> | undefined {
    const { method, compression, compressMinBytes } = this.#options;
    const bytes = method.output.serialize(message);
    if (compression === null || bytes.length < compressMinBytes) return this.#outbox.add(bytes);
    return compression
      .compress(bytes as Uint8Array<ArrayBuffer>)
      .then((compressed) => this.#outbox.addCompressed(compressed));
  }

  #writeHead(): void {
    const { response, addHeaders } = this.#options;
    addHeaders();
    writeHead({ status: 200, header: this.context.responseHeader }, response);
  }

  #finish(): void {
    const { response } = this.#options;
    if (isClosed(response)) {
      this.#end(hangUpError);
      return;
    }
    this.#state = "answered";
    if (!response.headersSent) this.#writeHead();
    writeTrailers(this.context.responseTrailer, response);
    const rest = this.#outbox.take();
    if (rest === undefined) response.end();
    else response.end(rest);
  }

  #abort(reason: unknown): void {
    if (!this.#controller.signal.aborted) this.#controller.abort(reason);
  }

  #end(answeredError: () => ConnectError | undefined): void {
    if (this.#state === "over") return;
    this.#state = "over";
    clearTimeout(this.#timer);
    this.#options.onEnd(answeredError);
  }
}
