import type { ContextValues, UnaryRequest } from "@connectrpc/connect";
import { type CallEnd, callEndKey } from "../policies/call-end.ts";
import { type LazyHeaders, lazyHeaders, readHeaders } from "./request-headers.ts";

export interface CallRequestParts extends Pick<UnaryRequest, "method" | "url" | "message"> {
  readonly contextValues: ContextValues;
  readonly headers: LazyHeaders;
  readonly end: CallEnd;
}

interface Lazy {
  readonly [lazyHeaders]: LazyHeaders;
  readonly [callEndKey]: CallEnd;
}

// A getter in a literal is another function for each object, and makes all of them slow.
const header = {
  get(this: Lazy) {
    return readHeaders(this[lazyHeaders]);
  },
  enumerable: true,
};
const signal = {
  get(this: Lazy) {
    return this[callEndKey].signal;
  },
  enumerable: true,
};

/** A request as Connect makes it; its header and its signal are made when they are read. */
export function createCallRequest(parts: CallRequestParts): UnaryRequest {
  const { method, url, message, contextValues, headers, end } = parts;
  const request = {
    stream: false,
    service: method.parent,
    method,
    requestMethod: "POST",
    url,
    contextValues,
    message,
    [lazyHeaders]: headers,
    [callEndKey]: end,
  };
  Object.defineProperty(request, "header", header);
  Object.defineProperty(request, "signal", signal);
  return request as typeof request & Pick<UnaryRequest, "stream" | "header" | "signal">;
}
