import { getEventListeners } from "node:events";
import { Code, ConnectError, type HandlerContext, type UnaryRequest } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import type { FastifyReply } from "fastify";
import type { RunningCall, RunningCalls } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { LazyHeaders } from "#shared/unread";
import { type CallInfo, handCallInfo, type UnaryInfo } from "../call-info.ts";
import { compatible, type DirectRequest, type DirectResponse } from "../direct/direct-call.ts";
import { giveUp } from "../give-up.ts";
import { hangUpError } from "../hang-up.ts";
import { resetUnread } from "../reset-unread.ts";
import { CallValues } from "../short-path/call-values.ts";
import { dropUnread, late, OVER, replace } from "../short-path/endings.ts";
import type { UnaryDialect } from "../short-path/ordinary.ts";
import type { HandOn } from "../short-path/short-route.ts";
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
import { MessageReader, type MessageSink } from "./message-reader.ts";
import { IncomingRequest, UnaryContext } from "./unary-context.ts";
import type { UnaryMethod } from "./unary-method.ts";

/** What the calls of one method have in common. */
export interface UnaryRoute {
  readonly method: UnaryMethod;
  readonly readMaxBytes: number;
  readonly compressMinBytes: number;
  readonly jsonOptions: object;
  readonly logger: Logger;
  readonly running: RunningCalls<UnaryCall>;
  readonly handOn: HandOn;
  /** Whether anything beside Connect has a hand in answers, such as CORS. */
  readonly hasHooks: boolean;
}

export interface UnaryCallOptions {
  readonly request: Request | DirectRequest;
  readonly response: Response | DirectResponse;
  /** Undefined for a call that has not come by Fastify. */
  readonly reply: FastifyReply | undefined;
  readonly info: CallInfo;
  readonly dialect: UnaryDialect;
  readonly timeoutMs: number;
  /** What the caller can read. */
  readonly compression: Compression | null;
}

/** One call on the short path: read → running → answered → over; or, while it is read, handed on. */
export class UnaryCall implements UnaryInfo, RunningCall<UnaryCall>, MessageSink {
  readonly context: HandlerContext;
  onAbort: ((reason: unknown) => void) | undefined = undefined;
  previous: UnaryCall | undefined = undefined;
  next: UnaryCall | undefined = undefined;
  readonly #route: UnaryRoute;
  readonly #request: Request | DirectRequest;
  readonly #response: Response | DirectResponse;
  readonly #reply: FastifyReply | undefined;
  readonly #info: CallInfo;
  readonly #dialect: UnaryDialect;
  readonly #compression: Compression | null;
  readonly #controller = new AbortController();
  readonly #reader: MessageReader;
  #state: "reading" | "running" | "answered" | "over" = "reading";
  #isLate = false;
  #timer: NodeJS.Timeout;
  #answeredError: ConnectError | undefined = undefined;

  constructor(route: UnaryRoute, options: UnaryCallOptions) {
    const { request, response, reply, info, dialect, timeoutMs, compression } = options;
    this.#route = route;
    this.#request = request;
    this.#response = response;
    this.#reply = reply;
    this.#info = info;
    this.#dialect = dialect;
    this.#compression = compression;
    this.context = new UnaryContext(route.method, {
      dialect,
      endsAtMs: Date.now() + timeoutMs,
      signal: this.#controller.signal,
      requestHeader: new LazyHeaders(request.headers),
      responseHeader: new LazyHeaders(initialHeader(dialect, compression)),
      responseTrailer: new LazyHeaders(initialTrailer(dialect)),
      values: new CallValues(info),
    });
    this.#timer = setTimeout(late, timeoutMs, this);
    const length = request.headers["content-length"];
    const isFramed = dialect.protocol !== "connect";
    const contentLength = isFramed || length === undefined ? undefined : Number(length);
    // Not through the compatibility layer of HTTP/2, which would hand each chunk from one stream to another.
    const source = "stream" in request ? request.stream : request;
    this.#reader = new MessageReader(source, this, { isFramed, readMaxBytes: route.readMaxBytes, contentLength });
    route.running.add(this);
  }

  /** Ends it early: what its handler does is lost on the caller, who is told the reason. */
  abort(reason: unknown): void {
    if (this.#state === "reading") this.onOdd(this.#reader.handOn());
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
      const response = this.#response;
      const isComplete = ("stream" in response ? response.stream : response).writableFinished;
      this.#end(isComplete ? () => this.#answeredError : hangUpError);
    }
  }

  /** The deadline has passed. */
  late(): void {
    this.#isLate = true;
    if (this.#state === "answered") this.#timer = setTimeout(dropUnread, LAST_WORDS_MS, this.#response);
    else this.abort(new ConnectError("the operation timed out", Code.DeadlineExceeded));
  }

  onOdd(body: AsyncIterable<Uint8Array>): void {
    this.#end(undefined);
    this.#info.unary = undefined;
    const request = compatible(this.#request);
    const response = compatible(this.#response);
    handCallInfo(request, this.#info);
    if ("stream" in response) resetUnread(response);
    this.#route.handOn({ request, response, reply: this.#reply }, body);
  }

  onMessage(bytes: Uint8Array): void {
    const { serialization } = this.#route.method;
    let message: UnaryRequest["message"];
    try {
      message = serialization.getI(this.#dialect.isBinary).parse(bytes);
    } catch {
      // Whoever cannot read it knows best what to say of it.
      this.onOdd(this.#reader.handOn());
      return;
    }
    this.#state = "running";
    void this.#answer(new IncomingRequest(this.context, message));
  }

  /** Never rejects. */
  async #answer(request: UnaryRequest): Promise<void> {
    const { method, compressMinBytes, jsonOptions } = this.#route;
    const { context } = this;
    const dialect = this.#dialect;
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
      const compression = this.#compression;
      const answer = toAnswer(outcome, { dialect, context, compression, compressMinBytes, jsonOptions });
      this.#write(answer instanceof Promise ? await answer : answer);
    } catch (error) {
      const response = compatible(this.#response);
      const failure = giveUp(error, { logger: this.#route.logger, method: this.#name(), response });
      this.#end(() => failure);
    }
  }

  #write(answer: UnaryAnswer): void {
    const response = this.#response;
    if (isClosed(response)) {
      this.#end(hangUpError);
      return;
    }
    this.#state = "answered";
    writeAnswer(answer, response, this.#route.hasHooks ? this.#reply : undefined);
    // A caller that does not read it has it in our memory.
    if (this.#isLate) this.late();
  }

  #abort(reason: unknown): void {
    const { signal } = this.#controller;
    if (signal.aborted) return;
    this.#controller.abort(reason);
    this.onAbort?.(signal.reason);
  }

  /** The argument is undefined for a call that was handed on, or never came to a handler. */
  #end(answeredError: (() => ConnectError | undefined) | undefined): void {
    if (this.#state === "over") return;
    this.#state = "over";
    clearTimeout(this.#timer);
    const { running, logger } = this.#route;
    running.delete(this);
    if (answeredError === undefined) return;
    try {
      this.#info.log?.ended(answeredError);
    } catch (err) {
      logger.error({ err, method: this.#name() }, "the end of a call cannot be told");
    }
  }

  #name(): string {
    const { parent, name } = this.#route.method.method;
    return `${parent.typeName}/${name}`;
  }
}
