import { Code, ConnectError } from "@connectrpc/connect";
import { abortableItems } from "./abortable.ts";
import { hangUpError } from "./hang-up.ts";

export interface ReadBodyOptions {
  /** When to give up, on the clock of `performance.now()`. */
  readonly deadlineMs?: number | undefined;
  /** When to give up as well, with its reason. */
  readonly shutdown: AbortSignal;
}

/**
 * A request's body, chunk by chunk, for as long as the call may take.
 */
export async function* readBody(
  chunks: AsyncIterable<Uint8Array>,
  { deadlineMs, shutdown }: ReadBodyOptions,
): AsyncGenerator<Uint8Array> {
  const end = new AbortController();
  const onShutdown = () => end.abort(shutdown.reason);
  if (shutdown.aborted) onShutdown();
  shutdown.addEventListener("abort", onShutdown);
  const timer =
    deadlineMs === undefined ? undefined : setTimeout(onDeadline, Math.max(0, deadlineMs - performance.now()));
  function onDeadline(): void {
    end.abort(new ConnectError("the operation timed out", Code.DeadlineExceeded));
  }
  try {
    yield* abortableItems(end.signal, chunks);
  } catch (error) {
    // A body fails when its connection or its stream does.
    throw end.signal.aborted ? error : hangUpError();
  } finally {
    clearTimeout(timer);
    shutdown.removeEventListener("abort", onShutdown);
  }
}
