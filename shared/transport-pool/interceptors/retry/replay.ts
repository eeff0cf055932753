import type { StreamRequest, UnaryRequest } from "@connectrpc/connect";

/** What a call sends, for one attempt after the other, as long as no attempt has taken too much of it. */
export interface Replay {
  /** The request of an attempt: `request` with the call's messages from the first on. Those before are abandoned. */
  begin(request: UnaryRequest | StreamRequest): ReplayedAttempt;
  /** Whether there can be a further attempt. */
  isPossible(): boolean;
}

export interface ReplayedAttempt {
  readonly request: UnaryRequest | StreamRequest;
  /** Another attempt follows: nothing that becomes of this one reaches the source of the messages. */
  abandon(): void;
  /** No other attempt follows. */
  commit(): void;
}

/** How many asks for the next message are kept: one message and the end, or two messages. */
const KEPT = 2;

/** Undefined when there is nothing to do: a unary request has its whole message at hand. */
export function createReplay(request: UnaryRequest | StreamRequest): Replay | undefined {
  return request.stream ? createStreamReplay(request.message) : undefined;
}

function createStreamReplay(source: StreamRequest["message"]): Replay {
  const inner = source[Symbol.asyncIterator]();
  // The promises, not the messages: an attempt may be abandoned while it still waits.
  const kept: ReturnType<typeof inner.next>[] = [];
  let isPossible = true;

  function begin(request: UnaryRequest | StreamRequest): ReplayedAttempt {
    if (!request.stream) return { request, abandon: nothing, commit: nothing };
    let asked = 0;
    let fate: "open" | "abandoned" | "committed" = "open";
    let held: { readonly error: unknown } | undefined;

    const iterator: typeof inner = {
      next() {
        if (fate === "abandoned") return Promise.resolve({ done: true, value: undefined });
        const index = asked++;
        const before = kept[index];
        if (before !== undefined) return before;
        const result = inner.next();
        if (index < KEPT) kept.push(result);
        else isPossible = false;
        return result;
      },
      // How Connect tells the source that nobody takes its messages any more. While another attempt may want them it
      // must not know.
      throw(error) {
        if (fate === "committed" && inner.throw !== undefined) return inner.throw(error);
        if (fate === "open") held = { error };
        return Promise.reject(error);
      },
    };
    return {
      request: { ...request, message: { [Symbol.asyncIterator]: () => iterator } },
      abandon() {
        fate = "abandoned";
      },
      commit() {
        fate = "committed";
        // Its failure is this very error.
        if (held !== undefined) inner.throw?.(held.error).catch(nothing);
      },
    };
  }

  return { begin, isPossible: () => isPossible };
}

function nothing(): void {}
