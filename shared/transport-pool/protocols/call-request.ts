import type { ContextValues, UnaryRequest } from "@connectrpc/connect";
import { type LazyAbortSignal, lazyAbortSignalKey } from "../call/lazy-abort-signal.ts";
import { type RawHeaders, rawHeaders, readHeaders } from "./request-headers.ts";

export interface CallRequestParts extends Pick<UnaryRequest, "method" | "url" | "message"> {
  readonly contextValues: ContextValues;
  readonly headers: RawHeaders;
  readonly end: LazyAbortSignal;
}

interface Lazy {
  readonly [rawHeaders]: RawHeaders;
  readonly [lazyAbortSignalKey]: LazyAbortSignal;
}

/** As Connect's own request has it, where nobody stops whoever assigns to what is readonly. */
const plainField = { enumerable: true, configurable: true, writable: true };

// A getter in a literal is another function for each object, and makes all of them slow.
const header = {
  get(this: Lazy) {
    return readHeaders(this[rawHeaders]);
  },
  set(this: Lazy, value: Headers) {
    // Those that it had are made, and so no longer what is sent.
    readHeaders(this[rawHeaders]);
    Object.defineProperty(this, "header", { ...plainField, value });
  },
  enumerable: true,
  configurable: true,
};
const signal = {
  get(this: Lazy) {
    return this[lazyAbortSignalKey].signal;
  },
  set(this: Lazy, value: AbortSignal) {
    void this[lazyAbortSignalKey].signal;
    Object.defineProperty(this, "signal", { ...plainField, value });
  },
  enumerable: true,
  configurable: true,
};

/** A request as Connect makes it; its header and its signal are made when they are read. */
export function createCallRequest(parts: CallRequestParts): UnaryRequest {
  return new CallRequest(parts);
}

// Not a literal: those that live as long as a call are soon allocated among what lives for ever, with all they refer to.
class CallRequest implements UnaryRequest {
  readonly stream = false;
  readonly service: UnaryRequest["service"];
  readonly method: UnaryRequest["method"];
  readonly requestMethod = "POST";
  readonly url: string;
  readonly contextValues: ContextValues;
  readonly message: UnaryRequest["message"];
  declare readonly header: Headers;
  declare readonly signal: AbortSignal;
  readonly [rawHeaders]: RawHeaders;
  readonly [lazyAbortSignalKey]: LazyAbortSignal;

  constructor({ method, url, message, contextValues, headers, end }: CallRequestParts) {
    this.service = method.parent;
    this.method = method;
    this.url = url;
    this.contextValues = contextValues;
    this.message = message;
    this[rawHeaders] = headers;
    this[lazyAbortSignalKey] = end;
    Object.defineProperty(this, "header", header);
    Object.defineProperty(this, "signal", signal);
  }
}
