import {
  Code,
  ConnectError,
  type HandlerContext,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
} from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { CallContext } from "#shared/call-context";
import type { Logger } from "#shared/logging";
import { callNext, watchItems } from "#shared/rpc";
import type { CallRecord, CallRecords } from "../call-record.ts";
import type { ServerConfig } from "../config.ts";
import type { ExchangeEnd, ExchangeListener } from "../http/exchange.ts";
import { type CallInfo, callInfoKey } from "../interceptors/call-info.ts";
import { IncomingCall } from "../interceptors/incoming-call.ts";
import { clientDisconnected, FLUSH_GRACE_MS } from "../rpc/call.ts";
import { asConnectError } from "../rpc/status.ts";
import { cutTimeout, MAX_TIMER_MS } from "../rpc/timeout.ts";
import type { AdmissionSlot } from "../shedding/admission-slot.ts";
import { runStages, type Stages } from "../stages.ts";
import { BodyChunks } from "./body.ts";
import { exchangeOf, type NodeExchange, type NodeRequest } from "./fallback.ts";
import { GuardedResponse } from "./guarded-response.ts";

export interface GuardOptions {
  readonly config: Pick<ServerConfig, "maxTimeoutMs" | "maxStreamTimeoutMs">;
  readonly logger: Logger;
  readonly stages: Stages;
  readonly records: CallRecords;
  /** Ends every call. */
  readonly shutdown: AbortSignal;
}

/** Closes what Connect's plugin leaves open: time, headers of the transport, the end of a call, its record. */
export interface Guard {
  /** Prepares a request for the plugin. */
  begin(request: FastifyRequest, reply: FastifyReply, handler: UniversalHandler): void;
  readonly interceptor: Interceptor;
  readonly requestGate: (context: HandlerContext) => Promise<void>;
  callOf(request: NodeRequest): CallInfo | undefined;
}

const calls = new WeakMap<NodeExchange, GuardedCall>();

/** Whether the exchange has left a record. */
export function isRecorded(exchange: NodeExchange): boolean {
  return calls.get(exchange)?.isBegun ?? false;
}

/** Whether Connect's plugin serves the exchange. */
export function isGuarded(exchange: NodeExchange): boolean {
  return calls.has(exchange);
}

export function createGuard(options: GuardOptions): Guard {
  const { config, stages, records, shutdown } = options;

  return {
    begin(request, reply, { method }) {
      const { raw } = request;
      const exchange = exchangeOf(raw);
      const isUnary = method.methodKind === "unary";
      const timeoutMs = cutTimeout(raw.headers, isUnary ? config.maxTimeoutMs : config.maxStreamTimeoutMs);
      repairAuthority(raw);
      const response = new GuardedResponse(raw, reply.raw, `${method.parent.typeName}/${method.name}`, options.logger);
      const call = new GuardedCall(exchange, response, timeoutMs, records, shutdown);
      calls.set(exchange, call);
      // The plugin gives Connect what stands here, and Connect takes any async iterable.
      request.body = call.body;
    },
    interceptor: (next) => (request) => {
      const call = request.contextValues.get(callInfoKey);
      return call instanceof GuardedCall ? call.watch(next, request) : next(request);
    },
    async requestGate(context) {
      const call = context.values.get(callInfoKey);
      if (!(call instanceof GuardedCall)) return;
      call.pass(context);
      await runStages(stages, call, context);
    },
    callOf: (request) => calls.get(exchangeOf(request)),
  };
}

/**
 * A missing authority, or one that makes no URL, would fail the call in the plugin. HTTP/1.0 requires none, and Node's own
 * client writes IPv6 addresses without brackets.
 */
function repairAuthority({ headers }: NodeRequest): void {
  const name = ":authority" in headers ? ":authority" : "host";
  if (typeof headers[name] !== "string" || !URL.canParse(`http://${headers[name]}`)) headers[name] = "server";
}

/** A call that Connect's plugin serves. */
class GuardedCall implements ExchangeListener, CallInfo, CallRecord {
  readonly exchange: NodeExchange;
  readonly body: BodyChunks;
  readonly handlerContext = undefined;
  protocol: CallRecord["protocol"] = "connect";
  slot: AdmissionSlot | undefined = undefined;
  onAbort: ((reason: unknown) => void) | undefined = undefined;
  failure: ConnectError | undefined = undefined;
  isCallersFault = false;
  isUnlogged = false;
  /** Whether Connect has taken it for a call. */
  isBegun = false;
  readonly #response: GuardedResponse;
  readonly #records: CallRecords;
  readonly #deadlineMs: number | undefined;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #shutdown: AbortSignal;
  readonly #onShutdown = () => this.body.fail(this.#shutdown.reason);
  #callContext: CallContext | undefined;
  #hasHandlerBegun = false;

  constructor(
    exchange: NodeExchange,
    response: GuardedResponse,
    timeoutMs: number | undefined,
    records: CallRecords,
    shutdown: AbortSignal,
  ) {
    this.exchange = exchange;
    this.body = new BodyChunks(exchange);
    this.#response = response;
    this.#records = records;
    this.#shutdown = shutdown;
    this.#deadlineMs = timeoutMs === undefined ? undefined : exchange.startedAtMs + timeoutMs;
    if (timeoutMs !== undefined) {
      const left = Math.min(Math.max(0, exchange.startedAtMs + timeoutMs - performance.now()), MAX_TIMER_MS);
      const late = new ConnectError("the operation timed out", Code.DeadlineExceeded);
      this.#timers.push(setTimeout(() => this.body.fail(late), left));
      // A caller that does not read the response keeps it in our memory.
      this.#timers.push(setTimeout(() => exchange.reset(), Math.min(left + FLUSH_GRACE_MS, MAX_TIMER_MS)));
    }
    if (shutdown.aborted) this.#onShutdown();
    shutdown.addEventListener("abort", this.#onShutdown);
    exchange.listen(this);
  }

  get method(): string {
    return this.#response.method;
  }

  get callContext(): CallContext {
    if (this.#callContext === undefined) throw new Error("the call has not begun");
    return this.#callContext;
  }

  /** Connect has made its context. */
  pass({ requestHeader, signal, protocolName }: HandlerContext): void {
    this.isBegun = true;
    this.protocol = protocolName as CallRecord["protocol"];
    this.#callContext = new IncomingCall(this.method, requestHeader, signal, this.#deadlineMs);
    this.#records.begin(this);
  }

  /** Sees what the interceptors and the handler end with. */
  watch(next: Parameters<Interceptor>[0], request: Parameters<ReturnType<Interceptor>>[0]): ReturnType<typeof next> {
    this.#hasHandlerBegun = true;
    const seen = request.stream
      ? ({
          ...request,
          message: watchItems(request.message, {
            onError: (reason) => {
              this.isCallersFault = true;
              return reason;
            },
          }),
        } as StreamRequest)
      : request;
    return callNext(next, seen).then(
      (response) => {
        if (!response.stream) return response;
        const message = watchItems(response.message, { onError: (reason) => this.#failed(reason) });
        return { ...response, message: closing(message) } as StreamResponse;
      },
      (reason) => {
        throw this.#failed(reason);
      },
    );
  }

  #failed(reason: unknown): unknown {
    this.failure ??= asConnectError(reason);
    return reason;
  }

  onData(chunk: Buffer): void {
    this.body.push(chunk);
  }

  onEnd(): void {
    this.body.end();
  }

  onDrain(): void {}

  onClose(end: ExchangeEnd): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#shutdown.removeEventListener("abort", this.#onShutdown);
    const gone = clientDisconnected(end);
    this.body.fail(gone);
    this.slot?.over();
    if (!this.isBegun) return;
    if (this.failure === undefined && this.#response.isFlushed) {
      // Of a handler that has done its part: its response could not be encoded.
      this.failure = this.#response.failure;
      this.isUnlogged = this.failure !== undefined && this.#hasHandlerBegun;
      this.isCallersFault = !this.#hasHandlerBegun;
    } else this.failure ??= gone;
    this.#records.end(this);
  }
}

/** A failure to write closes the handler's stream, and is none of the handler's. */
function closing<T>(items: AsyncIterable<T>): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator]() {
      const inner = items[Symbol.asyncIterator]();
      const close = async () => (await inner.return?.()) ?? { done: true as const, value: undefined };
      return { next: () => inner.next(), return: close, throw: close };
    },
  };
}
