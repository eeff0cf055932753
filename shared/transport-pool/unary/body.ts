/** The bytes of an answer for Connect's own transforms, as they come. */
export interface Body extends AsyncIterable<Uint8Array> {
  push(chunk: Uint8Array): void;
  end(): void;
}

export interface BodyFlow {
  /** More has come than was asked for. */
  pause(): void;
  resume(): void;
}

/** For one reader. */
export function createBody(flow: BodyFlow): Body {
  const chunks: Uint8Array[] = [];
  let hasEnded = false;
  let wake: (() => void) | undefined;

  function changed(): void {
    wake?.();
    wake = undefined;
  }

  return {
    push(chunk) {
      chunks.push(chunk);
      if (wake === undefined) flow.pause();
      changed();
    },
    end() {
      hasEnded = true;
      changed();
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        const chunk = chunks.shift();
        if (chunk !== undefined) {
          yield chunk;
        } else {
          if (hasEnded) return;
          const { promise, resolve } = Promise.withResolvers<void>();
          wake = resolve;
          flow.resume();
          await promise;
        }
      }
    },
  };
}
