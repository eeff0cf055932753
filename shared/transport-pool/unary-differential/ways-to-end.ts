import { Code, ConnectError } from "@connectrpc/connect";
import type { CallOptions } from "./compare.ts";

function cancelledWith(reason: unknown): () => CallOptions {
  return () => {
    const controller = new AbortController();
    return { signal: controller.signal, afterMs: { ms: 40, act: () => controller.abort(reason) } };
  };
}

/** How a call can end while its peer says nothing. */
export const endings: Record<string, () => CallOptions> = {
  "the deadline": () => ({ timeoutMs: 40 }),
  "a cancellation": cancelledWith(undefined),
  "a cancellation with a ConnectError": cancelledWith(new ConnectError("no more", Code.Aborted)),
  "a cancellation with an Error": cancelledWith(new Error("no more")),
  "a cancellation with a text": cancelledWith("no more"),
  "a signal that had fired": () => ({ signal: AbortSignal.abort(new Error("long ago")) }),
  "a deadline that had passed": () => ({ signal: AbortSignal.abort(new ConnectError("late", Code.DeadlineExceeded)) }),
};
