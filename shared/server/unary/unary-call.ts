import { getEventListeners } from "node:events";
import { constants } from "node:http2";
import { Code, ConnectError, type ContextValues, type HandlerContext, type UnaryRequest } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { LazyHeaders } from "#shared/unread";
import type { CallInfo, UnaryInfo } from "../call-info.ts";
import { hangUpError } from "../hang-up.ts";
import { isClosed, LAST_WORDS_MS } from "../write-response.ts";
import {
  asConnectError,
  initialHeader,
  initialTrailer,
  type Outcome,
  type Request,
  type Response,
  toAnswer,
  type UnaryAnswer,
  writeAnswer,
} from "./answer.ts";
import { MessageReader } from "./message-reader.ts";
import type { UnaryDialect } from "./ordinary.ts";
import type { UnaryMethod } from "./unary-method.ts";

export interface UnaryCallOptions {
  readonly method: UnaryMethod;
  readonly dialect: UnaryDialect;
  readonly request: Request;
  readonly response: Response;
  readonly info: CallInfo;
  readonly values: ContextValues;
  readonly timeoutMs: number;
  readonly readMaxBytes: number;
  /** What the caller can read. */
  readonly compression: Compression | null;
  readonly jsonOptions: object;
  /** Adds what hooks have set for the answer. */
  addHeaders(): void;
  /** Lets Connect's handlers answer. */
  handOn(body: AsyncIterable<Uint8Array>): void;
  /** Ends an answer that cannot be written. @returns what it tells */
  giveUp(error: unknown): ConnectError;
  /** Nothing more happens; the argument is undefined for a call that was handed on, or never came to a handler. */
  onEnd(answeredError: (() => ConnectError | undefined) | undefined): void;
}

/** What the signal of a call that went well says afterwards, to what was left behind. */
export const OVER = new DOMException("This operation was aborted", "AbortError");

/** One call on the short path: read → running → answered → over; or, while it is read, handed on. */
export class UnaryCall implements UnaryInfo {
  readonly context: HandlerContext;
  onAbort?: (reason: unknown) => void;
  readonly #options: UnaryCallOptions;
  readonly #controller = new AbortController();
  readonly #reader: MessageReader;
  #state: "reading" | "running" | "answered" | "over" = "reading";
  #isLate = false;
  #timer: NodeJS.Timeout;
  #answeredError: ConnectError | undefined;

  constructor(options: UnaryCallOptions) {
    const { method, dialect, request, values, timeoutMs, compression } = options;
    this.#options = options;
    const endsAtMs = Date.now() + timeoutMs;
    this.context = {
      service: method.method.parent,
      method: method.method,
      protocolName: dialect.protocol,
      requestMethod: "POST",
      url: method.url,
      timeoutMs: () => Math.trunc(endsAtMs) - Date.now(),
      signal: this.#controller.signal,
      requestHeader: new LazyHeaders(request.headers),
      responseHeader: new LazyHeaders(initialHeader(dialect, compression)),
      responseTrailer: new LazyHeaders(initialTrailer(dialect)),
      values,
    };
    this.#timer = setTimeout(late, timeoutMs, this);
    const length = request.headers["content-length"];
    const isFramed = dialect.protocol !== "connect";
    // Not through the compatibility layer of HTTP/2, which would hand each chunk from one stream to another.
    this.#reader = new MessageReader("stream" in request ? request.stream : request, {
      isFramed,
      readMaxBytes: options.readMaxBytes,
      contentLength: isFramed || length === undefined ? undefined : Number(length),
      onMessage: (bytes) => this.#run(bytes),
      onOdd: (body) => this.#handOn(body),
    });
  }

  /** Ends it early: what its handler does is lost on the caller, who is told the reason. */
  abort(reason: unknown): void {
    if (this.#state === "reading") this.#handOn(this.#reader.handOn());
    else if (this.#state === "running") this.#abort(reason);
  }

  /** The response has closed, and nothing more can be written. */
  closed(): void {
    if (this.#state === "reading") {
      this.#reader.stop();
      this.#end(undefined);
    } else if (this.#state === "running") {
      this.#abort(hangUpError());
    } else if (this.#state === "answered") {
      const { response } = this.#options;
      const isComplete = ("stream" in response ? response.stream : response).writableFinished;
      this.#end(isComplete ? () => this.#answeredError : hangUpError);
    }
  }

  /** The deadline has passed. */
  late(): void {
    this.#isLate = true;
    if (this.#state === "answered") this.#timer = setTimeout(dropUnread, LAST_WORDS_MS, this.#options.response);
    else this.abort(new ConnectError("the operation timed out", Code.DeadlineExceeded));
  }

  #handOn(body: AsyncIterable<Uint8Array>): void {
    this.#end(undefined);
    this.#options.handOn(body);
  }

  #run(bytes: Uint8Array): void {
    const { method, dialect } = this.#options;
    const { signal, requestHeader, values } = this.context;
    let message: UnaryRequest["message"];
    try {
      message = method.serialization.getI(dialect.isBinary).parse(bytes);
    } catch {
      // Whoever cannot read it knows best what to say of it.
      this.#handOn(this.#reader.handOn());
      return;
    }
    this.#state = "running";
    const request: UnaryRequest = {
      stream: false,
      message,
      service: method.method.parent,
      method: method.method,
      requestMethod: "POST",
      url: method.url,
      signal,
      header: requestHeader,
      contextValues: values,
    };
    void this.#answer(request);
  }

  /** Never rejects. */
  async #answer(request: UnaryRequest): Promise<void> {
    const { method, dialect, compression, jsonOptions } = this.#options;
    const { context } = this;
    let outcome: Outcome;
    try {
      const { message, header, trailer } = await method.invoke(request);
      if (header !== context.responseHeader) replace(context.responseHeader, header);
      if (trailer !== context.responseTrailer) replace(context.responseTrailer, trailer);
      outcome = method.serialization.getO(dialect.isBinary).serialize(message);
      // An abort costs as much as the rest of the context; nobody has to be told where nobody listens.
      if (getEventListeners(context.signal, "abort").length > 0) this.#abort(OVER);
    } catch (error) {
      outcome = asConnectError(error);
      this.#answeredError = outcome;
      this.#abort(error);
    }
    try {
      const answer = toAnswer(outcome, { dialect, context, compression, jsonOptions });
      this.#write(answer instanceof Promise ? await answer : answer);
    } catch (error) {
      const failure = this.#options.giveUp(error);
      this.#end(() => failure);
    }
  }

  #write(answer: UnaryAnswer): void {
    const { response, addHeaders } = this.#options;
    if (isClosed(response)) {
      this.#end(hangUpError);
      return;
    }
    this.#state = "answered";
    addHeaders();
    writeAnswer(answer, response);
    // A caller that does not read it has it in our memory.
    if (this.#isLate) this.late();
  }

  #abort(reason: unknown): void {
    const { signal } = this.#controller;
    if (signal.aborted) return;
    this.#controller.abort(reason);
    this.onAbort?.(signal.reason);
  }

  #end(answeredError: (() => ConnectError | undefined) | undefined): void {
    if (this.#state === "over") return;
    this.#state = "over";
    clearTimeout(this.#timer);
    this.#options.onEnd(answeredError);
  }
}

function late(call: UnaryCall): void {
  call.late();
}

function dropUnread(response: Response): void {
  if ("stream" in response) response.stream.close(constants.NGHTTP2_CANCEL);
  else response.destroy();
}

export function replace(target: Headers, source: Headers): void {
  for (const name of [...target.keys()]) target.delete(name);
  for (const [name, value] of source) target.set(name, value);
}
