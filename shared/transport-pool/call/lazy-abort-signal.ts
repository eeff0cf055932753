import type { StreamRequest, UnaryRequest } from "@connectrpc/connect";

/** What is asked of an AbortSignal here. */
export interface EndSignal extends Pick<AbortSignal, "aborted" | "reason" | "throwIfAborted"> {
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/** Where a request has its `LazyAbortSignal`. */
export const lazyAbortSignalKey = Symbol("call end");

/** The end of a call, as its AbortSignal has it, which is made only if somebody asks for it: most calls need none. */
export class LazyAbortSignal implements EndSignal {
  aborted = false;
  reason: unknown;
  /** Most calls have one. */
  #listener: (() => void) | undefined;
  #further: (() => void)[] | undefined;
  #controller: AbortController | undefined;

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.aborted) this.#controller.abort(this.reason);
    }
    return this.#controller.signal;
  }

  get isSignalMade(): boolean {
    return this.#controller !== undefined;
  }

  throwIfAborted(): void {
    if (this.aborted) throw this.reason;
  }

  addEventListener(_type: "abort", listener: () => void): void {
    if (this.#listener === undefined && this.#further === undefined) this.#listener = listener;
    else {
      this.#further ??= [];
      this.#further.push(listener);
    }
  }

  removeEventListener(_type: "abort", listener: () => void): void {
    if (this.#listener === listener) this.#listener = undefined;
    else this.#further = this.#further?.filter((one) => one !== listener);
  }

  /** The first reason holds. */
  abort(reason: unknown): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    // These were there before anybody could listen to the signal. One of them may remove another.
    for (let listener = this.#take(); listener !== undefined; listener = this.#take()) listener();
    this.#controller?.abort(reason);
  }

  #take(): (() => void) | undefined {
    const first = this.#listener;
    this.#listener = undefined;
    return first ?? this.#further?.shift();
  }
}

/** What fires when the request is to end; does not make a signal of it. */
export function abortSignalOf(request: UnaryRequest | StreamRequest): EndSignal {
  // One that was made of another, by its prototype, may have a signal of its own.
  if (!Object.hasOwn(request, lazyAbortSignalKey)) return request.signal;
  const end = (request as { readonly [lazyAbortSignalKey]?: LazyAbortSignal })[lazyAbortSignalKey];
  // Whoever has put another signal in place has had this one made: the spread of a request reads all that it has, and so
  // does an assignment.
  return end === undefined || end.isSignalMade ? request.signal : end;
}
