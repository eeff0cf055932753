import type { BodyFlow } from "../connections/exchange.ts";

/** The bytes of a response for Connect's own code, for one reader. */
export class ResponseBody implements AsyncIterable<Uint8Array> {
  readonly #flow: BodyFlow;
  readonly #chunks: Uint8Array[] = [];
  #hasEnded = false;
  #failure: { readonly reason: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor(flow: BodyFlow) {
    this.#flow = flow;
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    if (this.#wake === undefined) this.#flow.pause();
    this.#changed();
  }

  end(): void {
    this.#hasEnded = true;
    this.#changed();
  }

  /** Fails after the bytes that are there. */
  fail(reason: unknown): void {
    this.#failure = { reason };
    this.#changed();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        yield chunk;
        continue;
      }
      if (this.#failure !== undefined) throw this.#failure.reason;
      if (this.#hasEnded) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      this.#flow.resume();
      await promise;
    }
  }

  #changed(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
