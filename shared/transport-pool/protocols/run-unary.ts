import { Code, ConnectError, type UnaryResponse } from "@connectrpc/connect";
import { LazyAbortSignal } from "../call/lazy-abort-signal.ts";
import { timedOut } from "./failure-error.ts";

export interface UnaryRun {
  readonly signal: AbortSignal | undefined;
  /** 0 or less: it is over before it begins. Undefined: it may take for ever. */
  readonly timeoutMs: number | undefined;
  readonly send: (end: LazyAbortSignal) => Promise<UnaryResponse>;
}

/**
 * Runs a call under its deadline and its caller's signal, and fails as Connect's `runUnaryCall` does. Unlike that, it
 * fires the call's signal only when the call has failed: an `AbortError` for each call that went well costs more than
 * all the rest.
 */
export async function runUnary({ signal: own, timeoutMs, send }: UnaryRun): Promise<UnaryResponse> {
  const end = new LazyAbortSignal();
  const onAbort = own === undefined ? undefined : () => end.abort(own.reason);
  let timer: NodeJS.Timeout | undefined;

  if (own !== undefined && onAbort !== undefined) {
    if (own.aborted) onAbort();
    else own.addEventListener("abort", onAbort);
  }
  if (timeoutMs !== undefined && !end.aborted) timer = setTimeout(timeOut, timeoutMs, end);
  try {
    return await send(end);
  } catch (reason) {
    const error = end.aborted ? ConnectError.from(end.reason, Code.Canceled) : ConnectError.from(reason);
    end.abort(error);
    throw error;
  } finally {
    clearTimeout(timer);
    if (onAbort !== undefined) own?.removeEventListener("abort", onAbort);
  }
}

function timeOut(end: LazyAbortSignal): void {
  end.abort(timedOut());
}
