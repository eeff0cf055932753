import type { NodeExchange } from "./fallback.ts";

type Result = IteratorResult<Uint8Array, undefined>;

/** The chunks of a request's body, as Connect's handlers read them. Nothing is read before they ask. */
export class BodyChunks implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array, undefined> {
  readonly #exchange: NodeExchange;
  #chunks: Uint8Array[] = [];
  #state: "open" | "ended" = "open";
  #failure: { readonly reason: unknown } | undefined;
  #waiting: PromiseWithResolvers<Result> | undefined;

  constructor(exchange: NodeExchange) {
    this.#exchange = exchange;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Result> {
    const waiting = this.#waiting;
    if (waiting !== undefined) return waiting.promise.then(() => this.next());
    const value = this.#chunks.shift();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason);
    if (this.#state === "ended") return Promise.resolve(DONE);
    this.#waiting = Promise.withResolvers();
    const { promise } = this.#waiting;
    this.#exchange.read();
    return promise;
  }

  async return(): Promise<Result> {
    this.#chunks = [];
    this.#state = "ended";
    this.#failure = undefined;
    this.#exchange.stop();
    this.#wake();
    return DONE;
  }

  push(chunk: Uint8Array): void {
    if (this.#state === "ended") return;
    this.#chunks.push(chunk);
    this.#exchange.pause();
    this.#wake();
  }

  end(): void {
    this.#state = "ended";
    this.#wake();
  }

  /** Each read from now on fails with the reason. */
  fail(reason: unknown): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#failure = { reason };
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    this.#waiting = undefined;
    this.next().then(waiting.resolve, waiting.reject);
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });
