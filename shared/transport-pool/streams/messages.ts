import type { IncomingHttpHeaders } from "node:http2";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import {
  type Compression,
  pipe,
  type Serialization,
  transformDecompressEnvelope,
  transformParseEnvelope,
  transformSplitEnvelope,
} from "@connectrpc/connect/protocol";
import { FrameDecoder } from "#shared/rpc";
import { type Body, type BodyFlow, createBody } from "../unary/body.ts";

export type Message = MessageShape<DescMessage>;
type Result = IteratorResult<Message, undefined>;

export interface MessagesOptions extends BodyFlow {
  readonly serialization: Serialization<Message>;
  readonly readMaxBytes: number;
  /** What those are compressed with that say that they are. */
  readonly compression: Compression | undefined;
  /** Throws when it says that the call has failed. */
  readonly checkTrailers: (trailers: IncomingHttpHeaders | undefined) => void;
}

/** More than this, and the peer has to wait: as much as HTTP/2 lets come in any case. */
const MOST_AHEAD_BYTES = 64 * 1024;
/** What a message takes beside its bytes: those without any are to wait, too. */
const MESSAGE_BYTES = 128;

/**
 * The messages of an answer, for one reader. Those that are plain are cut out here; from the first that is not on,
 * Connect's own transforms read.
 */
export class Messages implements AsyncIterable<Message>, AsyncIterator<Message, undefined> {
  readonly #options: MessagesOptions;
  readonly #decoder: FrameDecoder;
  #queue: Uint8Array[] = [];
  #next = 0;
  #queuedBytes = 0;
  #isPaused = false;
  /** What comes after those that have come, for one ask. */
  #ending: (() => void) | undefined;
  /** What comes instead. */
  #failure: (() => never) | undefined;
  #isOver = false;
  #waiting: PromiseWithResolvers<Result> | undefined;
  #odd: { readonly body: Body; readonly iterator: AsyncIterator<Message> } | undefined;
  readonly #again = (): Promise<Result> => this.next();

  constructor(options: MessagesOptions) {
    this.#options = options;
    this.#decoder = new FrameDecoder(options.readMaxBytes);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Result> {
    // As a generator has it, one step waits for the other.
    if (this.#waiting !== undefined) return this.#waiting.promise.then(this.#again, this.#again);
    if (this.#isOver) return Promise.resolve(DONE);
    const bytes = this.#queue[this.#next];
    if (bytes !== undefined) return this.#take(bytes);
    if (this.#failure !== undefined) return this.#end(this.#failure);
    if (this.#odd !== undefined) return this.#nextOdd(this.#odd.iterator);
    if (this.#ending !== undefined) return this.#end(this.#ending);
    this.#waiting = Promise.withResolvers();
    const { promise } = this.#waiting;
    if (this.#isPaused) this.#resume();
    return promise;
  }

  onData(chunk: Buffer): void {
    if (this.#odd !== undefined) {
      this.#odd.body.push(chunk);
      return;
    }
    const messages = this.#decoder.decode(chunk);
    if (messages?.length === 0) return;
    if (messages === undefined) this.#beOdd(this.#decoder.rest());
    else this.#add(messages);
    this.#wake();
  }

  /** All has come. */
  onEnd(trailers: IncomingHttpHeaders | undefined): void {
    this.#ending = () => this.#options.checkTrailers(trailers);
    const wasOdd = this.#odd !== undefined;
    if (!wasOdd && !this.#decoder.isBetweenMessages()) this.#beOdd(this.#decoder.rest());
    this.#odd?.body.end();
    if (!wasOdd) this.#wake();
  }

  /** Nothing more will come. */
  fail(reason: unknown): void {
    this.#failure = () => {
      throw reason;
    };
    this.#wake();
  }

  #add(messages: Uint8Array[]): void {
    if (messages.length === 0) return;
    if (this.#next === this.#queue.length) this.#queue = messages;
    else this.#queue = [...this.#queue.slice(this.#next), ...messages];
    this.#next = 0;
    for (const { length } of messages) this.#queuedBytes += MESSAGE_BYTES + length;
    if (this.#queuedBytes < MOST_AHEAD_BYTES || this.#isPaused) return;
    this.#isPaused = true;
    this.#options.pause();
  }

  #take(bytes: Uint8Array): Promise<Result> {
    this.#next++;
    this.#queuedBytes -= MESSAGE_BYTES + bytes.length;
    try {
      return Promise.resolve({ done: false, value: this.#options.serialization.parse(bytes) });
    } catch (reason) {
      this.#isOver = true;
      return Promise.reject(reason);
    }
  }

  #resume(): void {
    this.#isPaused = false;
    this.#options.resume();
  }

  #end(ending: (() => void) | undefined): Promise<Result> {
    this.#isOver = true;
    try {
      ending?.();
      return Promise.resolve(DONE);
    } catch (reason) {
      return Promise.reject(reason);
    }
  }

  #beOdd(first: Buffer): void {
    const { serialization, readMaxBytes, compression = null } = this.#options;
    const body = createBody(this.#options);
    body.push(first);
    const messages = pipe(
      body,
      transformSplitEnvelope(readMaxBytes),
      transformDecompressEnvelope(compression, readMaxBytes),
      transformParseEnvelope(serialization),
    );
    this.#odd = { body, iterator: messages[Symbol.asyncIterator]() };
  }

  /** Ends with a failure from elsewhere, too. */
  #nextOdd(iterator: AsyncIterator<Message>): Promise<Result> {
    const waiting = Promise.withResolvers<Result>();
    this.#waiting = waiting;
    const settle = (settled: () => void) => {
      if (this.#waiting !== waiting) return;
      this.#waiting = undefined;
      settled();
    };
    iterator.next().then(
      (result) =>
        settle(() => {
          if (result.done !== true) waiting.resolve(result);
          else this.#end(this.#ending).then(waiting.resolve, waiting.reject);
        }),
      (reason) =>
        settle(() => {
          this.#isOver = true;
          waiting.reject(reason);
        }),
    );
    return waiting.promise;
  }

  /** Whoever waits asks again. */
  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) this.next().then(waiting.resolve, waiting.reject);
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });
