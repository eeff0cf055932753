import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { CallContext } from "#shared/call-context";
import type { RunningCall, RunningCalls } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import type { CallRecord, CallRecords } from "../call-record.ts";
import type { ExchangeEnd, ExchangeListener, ServerExchange } from "../http/exchange.ts";
import type { CallInfo } from "../interceptors/call-info.ts";
import { IncomingCall } from "../interceptors/incoming-call.ts";
import type { AdmissionSlot } from "../shedding/admission-slot.ts";
import { runStages, type Stages } from "../stages.ts";
import type { JsonOptions } from "./codec.ts";
import { type Compression, requestCompression, responseCompression } from "./compression.ts";
import { CallHandlerContext } from "./context.ts";
import type { PreparedMethod } from "./method.ts";
import { type Responding, respondFailure } from "./response.ts";
import { asConnectError } from "./status.ts";
import { timeoutOf } from "./timeout.ts";
import type { WireFormat } from "./wire-format.ts";

/** What all calls of a server have in common. */
export interface CallOptions {
  readonly readMaxBytes: number;
  readonly compressMinBytes: number;
  readonly jsonOptions: JsonOptions;
  readonly stages: Stages;
  readonly records: CallRecords;
  readonly running: RunningCalls<ServerCall>;
  readonly logger: Logger;
}

/** Reason of the signal of a call that went well, for what was left behind. */
export const CALL_COMPLETED: DOMException = new DOMException("This operation was aborted", "AbortError");

/** How long after its deadline the end of a response, such as DEADLINE_EXCEEDED, may take to be read. */
export const FLUSH_GRACE_MS = 1_000;

/** For a timer: one function for all calls. */
function onDeadline(call: ServerCall): void {
  call.onDeadline();
}

/**
 * One call: its context, deadline, abort and end. It reads the head, passes the head's stages, reads the body, runs the
 * handler, and responds. Every end of the exchange ends the call.
 */
export abstract class ServerCall
  implements ExchangeListener, CallInfo, CallRecord, Responding, RunningCall<ServerCall>
{
  readonly exchange: ServerExchange;
  readonly prepared: PreparedMethod;
  readonly format: WireFormat;
  readonly options: CallOptions;
  readonly context: HandlerContext;
  readonly callContext: CallContext;
  readonly compression: Compression | null;
  /** Of the request's messages. */
  protected readonly decompression: Compression | null;
  slot: AdmissionSlot | undefined = undefined;
  onAbort: ((reason: unknown) => void) | undefined = undefined;
  previous: ServerCall | undefined = undefined;
  next: ServerCall | undefined = undefined;
  /** `head` and `reading`: no handler has begun. */
  protected state: "head" | "reading" | "running" | "responded" | "over" = "head";
  /** What the call failed with, and whether no layer has logged it. */
  failure: ConnectError | undefined = undefined;
  isUnlogged = false;
  /** The fault is in what the caller has sent. */
  isCallersFault = false;
  readonly #refusal: ConnectError | undefined = undefined;
  readonly #controller = new AbortController();
  #timer: NodeJS.Timeout | undefined = undefined;

  constructor(
    exchange: ServerExchange,
    prepared: PreparedMethod,
    format: WireFormat,
    maxTimeoutMs: number,
    options: CallOptions,
  ) {
    this.exchange = exchange;
    this.prepared = prepared;
    this.format = format;
    this.options = options;
    const { headers, startedAtMs } = exchange;
    let timeoutMs: number | undefined;
    let decompression: Compression | null = null;
    try {
      decompression = requestCompression(headers, format);
      timeoutMs = timeoutOf(headers, format.timeoutHeader, maxTimeoutMs);
      // Over before it can be measured.
      if (timeoutMs !== undefined && timeoutMs < 1) throw timedOut();
    } catch (error) {
      this.#refusal = asConnectError(error);
    }
    this.decompression = decompression;
    this.compression = responseCompression(headers, format, decompression);
    const { signal } = this.#controller;
    this.context = new CallHandlerContext(prepared, exchange, format, this.compression, timeoutMs, signal, this);
    const deadlineMs = timeoutMs === undefined ? undefined : startedAtMs + timeoutMs;
    this.callContext = new IncomingCall(prepared.name, this.context.requestHeader, signal, deadlineMs);
    if (timeoutMs !== undefined) this.#timer = setTimeout(onDeadline, timeoutMs, this);
  }

  get handlerContext(): HandlerContext {
    return this.context;
  }

  get method(): string {
    return this.prepared.name;
  }

  get protocol(): WireFormat["protocol"] {
    return this.format.protocol;
  }

  get compressMinBytes(): number {
    return this.options.compressMinBytes;
  }

  get jsonOptions(): JsonOptions {
    return this.options.jsonOptions;
  }

  /** Takes the exchange and begins. */
  begin(): void {
    this.options.running.add(this);
    this.exchange.listen(this);
    this.options.records.begin(this);
    try {
      const passed = runStages(this.options.stages, this, this.context);
      if (passed === undefined) this.#pass();
      else
        passed.then(
          () => this.#pass(),
          (error: unknown) => this.#refuse(error),
        );
    } catch (error) {
      this.#refuse(error);
    }
  }

  #pass(): void {
    if (this.state !== "head") return;
    if (this.#refusal !== undefined) {
      this.fail(this.#refusal);
      return;
    }
    this.state = "reading";
    this.readBody();
  }

  #refuse(error: unknown): void {
    if (this.state === "head") this.fail(asConnectError(error), false);
  }

  protected abstract readBody(): void;

  abstract onData(chunk: Buffer): void;

  abstract onEnd(): void;

  abstract onDrain(): void;

  /** The exchange is over. */
  onClose(end: ExchangeEnd): void {
    if (end.kind !== "flushed" || this.state !== "responded") {
      this.failure ??= clientDisconnected(end);
      this.abort(this.failure);
    }
    this.end();
  }

  onDeadline(): void {
    // A caller that does not read the response keeps it in our memory.
    this.#timer = setTimeout(drop, FLUSH_GRACE_MS, this);
    this.abort(timedOut());
  }

  /** Ends the call early with the reason as its response. What the handler does afterwards has no effect on the response. */
  abort(reason: unknown): void {
    switch (this.state) {
      case "head":
      case "reading":
        if (this.exchange.state === "open") this.fail(asConnectError(reason));
        break;
      case "running":
        this.signalAbort(reason);
        break;
    }
  }

  protected signalAbort(reason: unknown): void {
    const { signal } = this.#controller;
    if (signal.aborted) return;
    this.#controller.abort(reason);
    this.onAbort?.(signal.reason);
  }

  /** Responds with a failure of what the caller has sent, before a handler has begun. */
  protected fail(error: ConnectError, isCallersFault = true): void {
    this.isCallersFault = isCallersFault;
    this.exchange.stop();
    this.failure = error;
    this.signalAbort(error);
    this.respond(() => respondFailure(this, error));
  }

  /** Writes the last of the response. */
  protected respond(write: () => void): void {
    if (this.exchange.state !== "open") {
      if (this.state !== "over") this.state = "responded";
      return;
    }
    this.state = "responded";
    try {
      write();
    } catch (error) {
      this.#cannotRespond(error);
    }
  }

  #cannotRespond(error: unknown): void {
    const { exchange, options, method } = this;
    options.logger.error({ err: error, method }, "call cannot be answered");
    this.failure = new ConnectError("the call cannot be answered", Code.Internal, undefined, undefined, error);
    this.isUnlogged = true;
    this.isCallersFault = false;
    if (exchange.isHeadWritten) exchange.reset();
    else exchange.respondError();
  }

  onTrimmed(): void {
    this.options.logger.warn({ method: this.method }, "error details do not fit into the response's headers");
  }

  protected end(): void {
    if (this.state === "over") return;
    this.state = "over";
    clearTimeout(this.#timer);
    const { running, records } = this.options;
    running.delete(this);
    this.slot?.over();
    records.end(this);
  }
}

function timedOut(): ConnectError {
  return new ConnectError("the operation timed out", Code.DeadlineExceeded);
}

function drop(call: ServerCall): void {
  call.exchange.reset();
}

/** What an exchange's end means for its call (gRPC's table of HTTP/2 error codes: CANCEL and NO_ERROR are the caller's). */
export function clientDisconnected(_end: ExchangeEnd): ConnectError {
  return new ConnectError("the caller has hung up", Code.Canceled);
}
