import { constants, type ServerHttp2Stream } from "node:http2";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import {
  pipe,
  type Serialization,
  transformDecompressEnvelope,
  transformParseEnvelope,
  transformSplitEnvelope,
} from "@connectrpc/connect/protocol";
import { FrameDecoder } from "#shared/rpc";
import { hangUpError } from "../hang-up.ts";
import { readBody } from "../read-body.ts";

type Message = MessageShape<DescMessage>;
type Result = IteratorResult<Message, undefined>;

export interface InboxOptions {
  readonly stream: ServerHttp2Stream;
  readonly serialization: Serialization<Message>;
  readonly readMaxBytes: number;
  readonly shutdown: AbortSignal;
}

/**
 * The messages of a request, for one reader. Nothing is read before the reader asks, and then no more than a chunk
 * and a message ahead of it. Where something comes that is not plain, Connect's own transforms read on.
 */
export class Inbox implements AsyncIterable<Message>, AsyncIterator<Message, undefined> {
  readonly #options: InboxOptions;
  readonly #decoder: FrameDecoder;
  #messages: Uint8Array[] = [];
  #next = 0;
  #state: "new" | "open" | "ended" | "over" = "new";
  #failure: { readonly reason: unknown } | undefined;
  #waiting: PromiseWithResolvers<Result> | undefined;
  #odd: AsyncIterator<Message> | undefined;
  readonly #again = () => this.next();
  readonly #onData = (chunk: Buffer) => this.#read(chunk);
  readonly #onEnd = () => this.#end();

  constructor(options: InboxOptions) {
    this.#options = options;
    this.#decoder = new FrameDecoder(options.readMaxBytes);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Result> {
    // As a generator has it, one step waits for the other.
    if (this.#waiting !== undefined) return this.#waiting.promise.then(this.#again, this.#again);
    const bytes = this.#messages[this.#next];
    if (bytes !== undefined) {
      this.#next++;
      return this.#parsed(bytes);
    }
    if (this.#failure !== undefined) return this.#failed(this.#failure.reason);
    if (this.#odd !== undefined) return this.#odd.next();
    if (this.#state === "ended" || this.#state === "over") return Promise.resolve(DONE);
    this.#waiting = Promise.withResolvers();
    const { promise } = this.#waiting;
    this.#resume();
    return promise;
  }

  /** Nobody reads any more; what comes is left unread. */
  async return(): Promise<IteratorReturnResult<undefined>> {
    this.#stop("over");
    this.#failure = undefined;
    // A step that still waits is over, too.
    this.#wake();
    await this.#odd?.return?.();
    return DONE;
  }

  async throw(reason: unknown): Promise<never> {
    await this.return();
    throw reason;
  }

  /** Nothing more will come: when what has come is read, the reason is what the reader gets. */
  fail(reason: unknown): void {
    if (this.#state !== "new" && this.#state !== "open") return;
    this.#stop("ended");
    this.#failure = { reason };
    this.#wake();
  }

  #resume(): void {
    const { stream } = this.#options;
    if (this.#state === "open") {
      stream.resume();
      return;
    }
    this.#state = "open";
    stream.on("data", this.#onData);
    stream.on("end", this.#onEnd);
    if (stream.readableEnded) this.#end();
  }

  #read(chunk: Buffer): void {
    const messages = this.#decoder.decode(chunk);
    if (messages === undefined) this.#beOdd();
    else {
      if (messages.length === 0) return;
      const ahead = this.#messages.slice(this.#next);
      this.#messages = ahead.length === 0 ? messages : [...ahead, ...messages];
      this.#next = 0;
      // One alone is most often the only one, with the end right behind.
      if (this.#messages.length > MOST_AHEAD) this.#options.stream.pause();
    }
    this.#wake();
  }

  #end(): void {
    const { rstCode = constants.NGHTTP2_NO_ERROR } = this.#options.stream;
    // A reset ends the readable side too. Without an error it is our own, of a call that has been answered.
    if (rstCode !== constants.NGHTTP2_NO_ERROR) this.fail(hangUpError());
    else if (this.#decoder.isBetweenMessages()) {
      this.#stop("ended");
      this.#wake();
    } else {
      this.#beOdd();
      this.#wake();
    }
  }

  #beOdd(): void {
    const { stream, serialization, readMaxBytes, shutdown } = this.#options;
    const isEnded = stream.readableEnded;
    this.#stop("ended");
    if (!isEnded) stream.pause();
    const body = readBody(joined(this.#decoder.rest(), isEnded ? undefined : stream), { shutdown });
    this.#odd = pipe(
      body,
      transformSplitEnvelope(readMaxBytes),
      transformDecompressEnvelope(null, readMaxBytes),
      transformParseEnvelope(serialization),
    )[Symbol.asyncIterator]();
  }

  #stop(state: "ended" | "over"): void {
    const { stream } = this.#options;
    if (this.#state === "open") {
      stream.off("data", this.#onData);
      stream.off("end", this.#onEnd);
      if (state === "over") stream.pause();
    }
    this.#state = state;
    if (state === "over") this.#messages = [];
  }

  /** Whoever waits asks again. */
  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) this.next().then(waiting.resolve, waiting.reject);
  }

  #parsed(bytes: Uint8Array): Promise<Result> {
    try {
      return Promise.resolve({ done: false, value: this.#options.serialization.parse(bytes) });
    } catch (reason) {
      return this.#failed(reason);
    }
  }

  #failed(reason: unknown): Promise<never> {
    this.#failure = undefined;
    this.#stop("over");
    return Promise.reject(reason);
  }
}

const MOST_AHEAD = 1;
const DONE: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });

async function* joined(first: Uint8Array, rest: ServerHttp2Stream | undefined): AsyncGenerator<Uint8Array> {
  yield first;
  if (rest !== undefined) yield* rest.iterator({ destroyOnReturn: false });
}
