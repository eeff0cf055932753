import type { CallContext } from "./call-context.ts";
import { continueTrace, formatTraceparent, startTrace, type Trace } from "./trace.ts";
import { uuid } from "./uuid.ts";

/** The headers that carry a call's context between services, besides the protocol's own for deadlines. */
export const contextHeaders = {
  traceparent: "traceparent",
  tracestate: "tracestate",
  requestId: "x-request-id",
  /** The calling service's name. */
  caller: "x-caller",
  /** How many attempts of the same call came before this one; absent on the first (gRFC A6). */
  previousAttempts: "grpc-previous-rpc-attempts",
  /** `1`: the call is a repeat or descends from one. See `CallContext.isRetried`. */
  retryChain: "x-retry-chain",
} as const;

// What may stand in a log line and an HTTP header as it is.
const idPattern = /^[\x21-\x7e]{1,128}$/;

interface CallOrigin extends Pick<CallContext, "requestId" | "trace"> {
  caller?: string;
  isRetried?: true;
}

/** What the headers say of the call's origin; what is missing or malformed begins here. */
export function readContextHeaders(headers: Headers): Readonly<CallOrigin> {
  const requestId = headers.get(contextHeaders.requestId) ?? "";
  const caller = headers.get(contextHeaders.caller) ?? "";
  const origin: CallOrigin = {
    requestId: idPattern.test(requestId) ? requestId : uuid(),
    trace:
      continueTrace(headers.get(contextHeaders.traceparent), headers.get(contextHeaders.tracestate)) ?? startTrace(),
  };
  if (idPattern.test(caller)) origin.caller = caller;
  if (isRetried(headers)) origin.isRetried = true;
  return origin;
}

/** A call that comes from nobody, with a trace and a request id of its own. */
export function beginCall(method: string): CallContext {
  return new BegunCall(method);
}

class BegunCall implements CallContext {
  readonly method: string;
  readonly requestId = uuid();
  readonly trace: Trace = startTrace();
  #signal: AbortSignal | undefined;

  constructor(method: string) {
    this.method = method;
  }

  /** Nobody ends it, and hardly anybody asks. */
  get signal(): AbortSignal {
    this.#signal ??= new AbortController().signal;
    return this.#signal;
  }
}

function isRetried(headers: Headers): boolean {
  if (headers.get(contextHeaders.retryChain) === "1") return true;
  const previous = headers.get(contextHeaders.previousAttempts);
  return previous !== null && /^0*[1-9]\d*$/.test(previous);
}

/**
 * Sets on an outgoing call's headers what they inherit from `call`. `caller` is the service that calls now. Headers
 * that are already set stay as they are.
 */
export function writeContextHeaders(headers: Headers, call: CallContext, caller: string): void {
  const { trace } = call;
  setDefault(headers, contextHeaders.requestId, call.requestId);
  if (!headers.has(contextHeaders.traceparent)) {
    headers.set(contextHeaders.traceparent, formatTraceparent(trace));
    if (trace.state !== undefined) headers.set(contextHeaders.tracestate, trace.state);
  }
  setDefault(headers, contextHeaders.caller, caller);
  if (call.isRetried === true) headers.set(contextHeaders.retryChain, "1");
}

/** The same for a call that has no headers of its own: names and values, each name once. */
export function contextHeaderPairs(call: CallContext, caller: string): [name: string, value: string][] {
  const { trace } = call;
  const pairs: [string, string][] = [
    [contextHeaders.requestId, call.requestId],
    [contextHeaders.traceparent, formatTraceparent(trace)],
    [contextHeaders.caller, caller],
  ];
  if (trace.state !== undefined) pairs.push([contextHeaders.tracestate, trace.state]);
  if (call.isRetried === true) pairs.push([contextHeaders.retryChain, "1"]);
  return pairs;
}

function setDefault(headers: Headers, name: string, value: string): void {
  if (!headers.has(name)) headers.set(name, value);
}
