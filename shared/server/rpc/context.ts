import {
  type ContextKey,
  type ContextValues,
  createHandlerContext,
  type HandlerContext,
  type StreamRequest,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { LazyHeaders } from "#shared/unread";
import type { ServerExchange } from "../http/exchange.ts";
import type { CallInfo } from "../interceptors/call-info.ts";
import { callInfoKey } from "../interceptors/call-info.ts";
import type { Compression } from "./compression.ts";
import type { PreparedMethod } from "./method.ts";
import type { WireFormat } from "./wire-format.ts";

// What lives as long as a call are classes, not object literals: while V8 warms up it finds the literals of all calls in
// flight alive, and from then on puts those of each call where only a full collection frees them.

/** As those of Connect's `createContextValues`, with what the transport knows of the call. */
class CallValues implements ContextValues {
  [id: symbol]: unknown;

  constructor(info: CallInfo) {
    this[callInfoKey.id] = info;
  }

  get<T>({ id, defaultValue }: ContextKey<T>): T {
    return id in this ? (this[id] as T) : defaultValue;
  }

  set<T>({ id }: ContextKey<T>, value: T): this {
    this[id] = value;
    return this;
  }

  delete({ id }: ContextKey<unknown>): this {
    delete this[id];
    return this;
  }
}

/** As Connect's own, all fields can be spread. */
export class CallHandlerContext implements HandlerContext {
  readonly service: HandlerContext["service"];
  readonly method: HandlerContext["method"];
  readonly protocolName: string;
  readonly requestMethod = "POST";
  readonly url: string;
  readonly timeoutMs: () => number | undefined;
  readonly signal: AbortSignal;
  readonly requestHeader: Headers;
  readonly responseHeader: Headers;
  readonly responseTrailer: Headers;
  readonly values: ContextValues;

  constructor(
    { descriptor, url }: PreparedMethod,
    exchange: ServerExchange,
    format: WireFormat,
    compression: Compression | null,
    timeoutMs: number | undefined,
    signal: AbortSignal,
    info: CallInfo,
  ) {
    const endsAtMs = timeoutMs === undefined ? undefined : Date.now() + timeoutMs;
    // V8 takes a function that is written where it is assigned to a field for one that stays for good.
    const left = () => (endsAtMs === undefined ? undefined : Math.trunc(endsAtMs) - Date.now());
    this.service = descriptor.parent;
    this.method = descriptor;
    this.protocolName = format.protocol;
    this.url = url;
    this.timeoutMs = left;
    this.signal = signal;
    this.requestHeader = new LazyHeaders(exchange.headers);
    this.responseHeader = new LazyHeaders(initialHeader(format, compression));
    this.responseTrailer = new LazyHeaders(format.protocol === "connect" ? NO_TRAILER : OK_TRAILER);
    this.values = new CallValues(info);
  }
}

const OK_TRAILER = { "grpc-status": "0" };
const NO_TRAILER = {};

function initialHeader({ contentType, isFramed, encodingHeader }: WireFormat, compression: Compression | null) {
  // Framed formats name the encoding of messages, whether or not one of them has it; unary Connect that of the body.
  if (!isFramed || compression === null) return { "content-type": contentType };
  return { "content-type": contentType, [encodingHeader]: compression.name };
}

/** What interceptors see of a unary call. */
export class IncomingRequest implements UnaryRequest {
  readonly stream = false;
  readonly service: UnaryRequest["service"];
  readonly method: UnaryRequest["method"];
  readonly requestMethod: string;
  readonly url: string;
  readonly signal: AbortSignal;
  readonly header: Headers;
  readonly contextValues: ContextValues;
  readonly message: UnaryRequest["message"];

  constructor(context: HandlerContext, message: UnaryRequest["message"]) {
    this.service = context.service;
    this.method = context.method as UnaryRequest["method"];
    this.requestMethod = context.requestMethod;
    this.url = context.url;
    this.signal = context.signal;
    this.header = context.requestHeader;
    this.contextValues = context.values;
    this.message = message;
  }
}

/** What interceptors see of its response. */
export class OutgoingResponse implements UnaryResponse {
  readonly stream = false;
  readonly service: UnaryResponse["service"];
  readonly method: UnaryResponse["method"];
  readonly message: UnaryResponse["message"];
  readonly header: Headers;
  readonly trailer: Headers;

  constructor(method: UnaryResponse["method"], message: UnaryResponse["message"], context: HandlerContext) {
    this.service = method.parent;
    this.method = method;
    this.message = message;
    this.header = context.responseHeader;
    this.trailer = context.responseTrailer;
  }
}

/** The call's context, with what interceptors have put into the request's place. */
export function contextOf(request: UnaryRequest | StreamRequest): HandlerContext {
  const context = request.contextValues.get(callInfoKey)?.handlerContext;
  const { service, method, requestMethod, url, header, signal, contextValues } = request;
  if (context === undefined) {
    // An interceptor has made a request of its own: then its response brings what it has for headers and trailers.
    const init = { service, method, requestMethod, url, requestHeader: header, requestSignal: signal, contextValues };
    return createHandlerContext({ ...init, protocolName: "" });
  }
  const isSame = context.requestHeader === header && context.signal === signal && context.values === contextValues;
  if (isSame && context.service === service) return context;
  return { ...context, service, requestHeader: header, signal, values: contextValues };
}

/** Puts what an interceptor has responded with in the place of the call's own headers. */
export function replaceHeaders(target: Headers, source: Headers): void {
  if (target === source) return;
  for (const name of [...target.keys()]) target.delete(name);
  for (const [name, value] of source) target.append(name, value);
}
