import { Code, ConnectError, type UnaryRequest, type UnaryResponse } from "@connectrpc/connect";
import { getAbortSignalReason } from "@connectrpc/connect/protocol";

export type UnarySend = (request: UnaryRequest) => Promise<UnaryResponse>;

export interface UnaryRun {
  readonly signal: AbortSignal | undefined;
  /** 0 or less: it is over before it begins. Undefined: it may take for ever. */
  readonly timeoutMs: number | undefined;
  readonly send: (signal: AbortSignal) => Promise<UnaryResponse>;
}

/**
 * Runs a call under its deadline and its caller's signal, and fails as Connect's `runUnaryCall` does. Unlike that, it
 * fires the call's signal only when the call has failed: an `AbortError` for each call that went well costs more than
 * all the rest.
 */
export async function runUnary({ signal: own, timeoutMs, send }: UnaryRun): Promise<UnaryResponse> {
  const controller = new AbortController();
  const { signal } = controller;
  const onAbort = own === undefined ? undefined : () => abort(getAbortSignalReason(own));
  let timer: NodeJS.Timeout | undefined;

  function abort(reason: unknown): void {
    if (!signal.aborted) controller.abort(reason);
  }

  if (own !== undefined && onAbort !== undefined) {
    if (own.aborted) onAbort();
    else own.addEventListener("abort", onAbort);
  }
  if (timeoutMs !== undefined && !signal.aborted) timer = setTimeout(timeOut, timeoutMs, controller);
  try {
    return await send(signal);
  } catch (reason) {
    const error = signal.aborted
      ? ConnectError.from(getAbortSignalReason(signal), Code.Canceled)
      : ConnectError.from(reason);
    abort(error);
    throw error;
  } finally {
    clearTimeout(timer);
    if (onAbort !== undefined) own?.removeEventListener("abort", onAbort);
  }
}

function timeOut(controller: AbortController): void {
  if (!controller.signal.aborted) {
    controller.abort(new ConnectError("the operation timed out", Code.DeadlineExceeded));
  }
}
