import { Code, ConnectError, type Transport } from "@connectrpc/connect";
import {
  type CallContext,
  currentCall,
  readContextHeaders,
  remainingMs,
  runInCall,
  writeContextHeaders,
} from "#shared/call-context";
import { outgoingTimeoutMs } from "./deadline.ts";

export interface InheritCallOptions {
  /** This service's name, for `x-caller`. */
  readonly caller: string;
  /** For unary calls without an explicit timeout. */
  readonly timeoutMs: number;
}

/**
 * Makes every outgoing call part of the incoming one that it works for: its deadline, its cancellation, and its trace,
 * request id and caller as headers. Outside of an incoming call, each outgoing one begins a trace of its own.
 *
 * A call without time left fails with DEADLINE_EXCEEDED before anything is sent.
 */
export function inheritCall(inner: Transport, { caller, timeoutMs: unaryTimeoutMs }: InheritCallOptions): Transport {
  return {
    unary(method, signal, timeoutMs, header, input, contextValues) {
      const own = { signal, timeoutMs, header };
      const out = outgoingCall(own, unaryTimeoutMs, caller);
      return runInCall(out.call, () =>
        inner.unary(method, out.signal, out.timeoutMs, out.header, input, contextValues),
      );
    },
    stream(method, signal, timeoutMs, header, input, contextValues) {
      const own = { signal, timeoutMs, header };
      const out = outgoingCall(own, undefined, caller);
      const response = runInCall(out.call, () =>
        inner.stream(method, out.signal, out.timeoutMs, out.header, input, contextValues),
      );
      // A client looks at this promise when the answer is first asked for. If that is late or never, its failure (which
      // is in the log) must not end the process as an unhandled rejection.
      response.catch(() => {});
      return response;
    },
  };
}

interface OwnOptions {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
  readonly header: ConstructorParameters<typeof Headers>[0];
}

function outgoingCall(own: OwnOptions, defaultMs: number | undefined, caller: string) {
  const incoming = currentCall();
  const call = incoming ?? beginCall(caller);
  const header = new Headers(own.header);
  writeContextHeaders(header, call, caller);
  const timeoutMs = outgoingTimeoutMs({ explicitMs: own.timeoutMs, defaultMs, remainingMs: remainingMs(call) });
  // The interceptors see a call that comes too late, so that its line is in the log; the innermost one ends it.
  const signal = timeoutMs === 0 ? AbortSignal.abort(tooLate()) : linkSignals(own.signal, incoming?.signal);
  return { call, header, timeoutMs, signal };
}

function beginCall(method: string): CallContext {
  return { ...readContextHeaders(new Headers()), method, signal: new AbortController().signal };
}

function linkSignals(own: AbortSignal | undefined, incoming: AbortSignal | undefined): AbortSignal | undefined {
  return own !== undefined && incoming !== undefined ? AbortSignal.any([own, incoming]) : (own ?? incoming);
}

function tooLate(): ConnectError {
  return new ConnectError("the deadline has passed before the call was sent", Code.DeadlineExceeded);
}
