import { Code, ConnectError, type StreamRequest, type StreamResponse } from "@connectrpc/connect";
import { timedOut } from "./failure-error.ts";

type Messages = StreamResponse["message"];
type Inner = ReturnType<Messages[typeof Symbol.asyncIterator]>;
type Item = Awaited<ReturnType<Inner["next"]>>;

export interface StreamRun {
  readonly signal: AbortSignal | undefined;
  /** Undefined: it may take for ever. */
  readonly timeoutMs: number | undefined;
  /** What the call sends: it is told when nobody takes it any more. */
  readonly input: StreamRequest["message"];
  readonly send: (signal: AbortSignal) => Promise<StreamResponse>;
}

/** What the signal of a call that went well says. With a stack of its own for each, it would cost more than the call. */
const OVER = new DOMException("This operation was aborted", "AbortError");

/** Runs a call under its deadline and its caller's signal, and ends as Connect's `runStreamingCall` does. */
export async function runStream({ signal: own, timeoutMs, input, send }: StreamRun): Promise<StreamResponse> {
  const controller = new AbortController();
  const { signal } = controller;
  const timer = timeoutMs === undefined ? undefined : setTimeout(timeOut, timeoutMs);
  let isDone = false;

  function timeOut(): void {
    abort(timedOut());
  }

  function onAbort(): void {
    if (own !== undefined) abort(own.reason);
  }

  function abort(reason: unknown): void {
    clearTimeout(timer);
    own?.removeEventListener("abort", onAbort);
    if (signal.aborted) return;
    controller.abort(reason);
    leaveInput(input, isDone, reason);
  }

  function fail(reason: unknown): never {
    const error = signal.aborted ? ConnectError.from(signal.reason, Code.Canceled) : ConnectError.from(reason);
    abort(error);
    throw error;
  }

  function pass(item: Item): Item {
    if (item.done === true) {
      isDone = true;
      abort(OVER);
    }
    return item;
  }

  /** The loops of interceptors end, and the call is cancelled. */
  async function leave(inner: Inner): Promise<IteratorReturnResult<undefined>> {
    abort(new ConnectError("the reader has left the stream", Code.Canceled));
    await inner.return?.();
    return { done: true, value: undefined };
  }

  // Of a call that has ended before it began, the source of its messages hears nothing, as with Connect.
  if (own?.aborted) {
    clearTimeout(timer);
    controller.abort(own.reason);
  } else own?.addEventListener("abort", onAbort);
  try {
    const response = await send(signal);
    return {
      ...response,
      message: {
        [Symbol.asyncIterator]() {
          const inner = response.message[Symbol.asyncIterator]();
          return {
            next() {
              if (!isDone && signal.aborted) return Promise.reject(signal.reason).catch(fail);
              return inner.next().then(pass, fail);
            },
            // Connect's transports have none: there, a reader that leaves early keeps the call.
            return: () => leave(inner),
          };
        },
      },
    };
  } catch (reason) {
    return fail(reason);
  }
}

/** Nobody hears what its end comes to. */
function leaveInput(input: StreamRequest["message"], isDone: boolean, reason: unknown): void {
  const iterator = input[Symbol.asyncIterator]();
  if (!isDone) iterator.throw?.(reason).catch(() => {});
  iterator.return?.().catch(() => {});
}
