import type { ContextValues, HandlerContext, UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import type { UnaryDialect } from "../short-path/ordinary.ts";
import type { UnaryMethod } from "./unary-method.ts";

export interface UnaryContextOptions {
  readonly dialect: UnaryDialect;
  /** In the time of `Date.now()`. */
  readonly endsAtMs: number;
  readonly signal: AbortSignal;
  readonly requestHeader: Headers;
  readonly responseHeader: Headers;
  readonly responseTrailer: Headers;
  readonly values: ContextValues;
}

/** As Connect's own, all fields can be spread. */
export class UnaryContext implements HandlerContext {
  readonly service: HandlerContext["service"];
  readonly method: HandlerContext["method"];
  readonly protocolName: string;
  readonly requestMethod = "POST";
  readonly url: string;
  readonly timeoutMs: () => number;
  readonly signal: AbortSignal;
  readonly requestHeader: Headers;
  readonly responseHeader: Headers;
  readonly responseTrailer: Headers;
  readonly values: ContextValues;

  constructor({ method, url }: UnaryMethod, options: UnaryContextOptions) {
    const { endsAtMs } = options;
    // V8 takes a function that is written where it is assigned to a field for one that stays for good.
    const timeoutMs = () => Math.trunc(endsAtMs) - Date.now();
    this.service = method.parent;
    this.method = method;
    this.protocolName = options.dialect.protocol;
    this.url = url;
    this.timeoutMs = timeoutMs;
    this.signal = options.signal;
    this.requestHeader = options.requestHeader;
    this.responseHeader = options.responseHeader;
    this.responseTrailer = options.responseTrailer;
    this.values = options.values;
  }
}

/** What interceptors see of a call. */
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

/** What interceptors see of an answer. */
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
