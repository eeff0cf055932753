import type { IncomingHttpHeaders } from "node:http2";
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { FrameReader } from "#shared/rpc";
import type { BodyFlow } from "../connections/exchange.ts";
import { decompress } from "./codec.ts";
import { COMPRESSED, incompleteFrame } from "./grpc.ts";
import type { AcceptedStream } from "./wire-format.ts";

type Result = IteratorResult<Message, undefined>;

export interface ResponseMessagesOptions {
  readonly stream: AcceptedStream;
  readonly parse: (bytes: Uint8Array) => Message;
  readonly readMaxBytes: number;
  readonly flow: BodyFlow;
  /** The reader has left before the end. */
  readonly onReturn: () => void;
}

/** With more than this unread, the peer has to wait. */
const MAX_AHEAD_BYTES = 64 * 1024;
/** How many places of messages that were taken the queue may have. */
const MAX_TAKEN = 256;
/** What a message takes besides its bytes: empty ones have to wait, too. */
const MESSAGE_BYTES = 128;

/** The messages of a response stream, for one reader. They are parsed when they are asked for. */
export class ResponseMessages implements AsyncIterable<Message>, AsyncIterator<Message, undefined> {
  readonly #options: ResponseMessagesOptions;
  readonly #frames: FrameReader;
  #queue: Frame[] = [];
  #next = 0;
  #queuedBytes = 0;
  #isPaused = false;
  #endFrame: Frame | undefined;
  /** What comes after the last message, for one ask. */
  #ending: (() => void | Promise<void>) | undefined;
  #isOver = false;
  #waiting: PromiseWithResolvers<Result> | undefined;
  /** What is waited for is being decompressed. */
  #isDecompressing = false;
  readonly #again = (): Promise<Result> => this.next();

  constructor(options: ResponseMessagesOptions) {
    this.#options = options;
    this.#frames = new FrameReader(options.readMaxBytes, { onFrame: (flags, bytes) => this.#add(flags, bytes) });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<Result> {
    // As a generator has it, one step waits for the other.
    if (this.#waiting !== undefined) return this.#waiting.promise.then(this.#again, this.#again);
    if (this.#isOver) return Promise.resolve(DONE);
    const frame = this.#queue[this.#next];
    if (frame !== undefined) return this.#take(frame);
    if (this.#ending !== undefined) return this.#end(this.#ending);
    this.#waiting = Promise.withResolvers();
    const { promise } = this.#waiting;
    if (this.#isPaused) this.#resume();
    return promise;
  }

  return(): Promise<IteratorReturnResult<undefined>> {
    if (!this.#isOver) {
      this.#isOver = true;
      this.#queue = [];
      this.#options.onReturn();
      this.#wake();
    }
    return Promise.resolve(DONE);
  }

  /** @throws ConnectError when a message is larger than the limit */
  onData(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#frames.read(chunk);
    if (this.#next < this.#queue.length) this.#wake();
  }

  /** The body is complete. */
  onEnd(trailers: IncomingHttpHeaders | undefined): void {
    const { stream, readMaxBytes } = this.#options;
    const frame = this.#endFrame;
    this.#ending = () => {
      if (frame instanceof CompressedFrame) {
        return decompress(frame.bytes, stream.compression, readMaxBytes).then((bytes) => {
          stream.onEndFrame(bytes);
          stream.onEnd(trailers);
        });
      }
      if (frame !== undefined) stream.onEndFrame(frame);
      else if (!this.#frames.isBetweenFrames) {
        // What the trailers say of a failure says more.
        stream.onEnd(trailers);
        throw incompleteFrame();
      }
      stream.onEnd(trailers);
    };
    this.#wake();
  }

  /** Fails after the messages that are there. */
  fail(reason: unknown): void {
    this.#ending = () => {
      throw reason;
    };
    this.#wake();
  }

  #add(flags: number, bytes: Uint8Array): void {
    const frame = (flags & COMPRESSED) === 0 ? bytes : new CompressedFrame(bytes);
    if (this.#endFrame !== undefined) {
      throw new ConnectError("protocol error: received extra message after EndStreamResponse", Code.InvalidArgument);
    }
    if ((flags & this.#options.stream.endFlag) !== 0) {
      this.#endFrame = frame;
      return;
    }
    if (this.#next === this.#queue.length) {
      this.#queue = [frame];
      this.#next = 0;
    } else {
      if (this.#next > MAX_TAKEN) this.#dropTaken();
      this.#queue.push(frame);
    }
    this.#queuedBytes += MESSAGE_BYTES + bytes.length;
    if (this.#queuedBytes < MAX_AHEAD_BYTES || this.#isPaused) return;
    this.#isPaused = true;
    this.#options.flow.pause();
  }

  #dropTaken(): void {
    this.#queue = this.#queue.slice(this.#next);
    this.#next = 0;
  }

  #take(frame: Frame): Promise<Result> {
    // Each would keep its message as long as the queue.
    this.#queue[this.#next++] = TAKEN;
    const { parse, readMaxBytes, stream } = this.#options;
    if (frame instanceof CompressedFrame) {
      this.#queuedBytes -= MESSAGE_BYTES + frame.bytes.length;
      return this.#step(decompress(frame.bytes, stream.compression, readMaxBytes).then(parse));
    }
    this.#queuedBytes -= MESSAGE_BYTES + frame.length;
    try {
      return Promise.resolve({ done: false, value: parse(frame) });
    } catch (reason) {
      this.#isOver = true;
      return Promise.reject(reason);
    }
  }

  /** Later asks wait for it. */
  #step(message: Promise<Message>): Promise<Result> {
    const waiting = Promise.withResolvers<Result>();
    this.#waiting = waiting;
    this.#isDecompressing = true;
    const settled = () => {
      this.#waiting = undefined;
      this.#isDecompressing = false;
    };
    message.then(
      (value) => {
        settled();
        waiting.resolve({ done: false, value });
      },
      (reason) => {
        settled();
        this.#isOver = true;
        waiting.reject(reason);
      },
    );
    return waiting.promise;
  }

  #resume(): void {
    this.#isPaused = false;
    this.#options.flow.resume();
  }

  #end(ending: () => void | Promise<void>): Promise<Result> {
    this.#isOver = true;
    try {
      return Promise.resolve(ending()).then(done);
    } catch (reason) {
      return Promise.reject(reason);
    }
  }

  /** The ask that waits is made again. */
  #wake(): void {
    if (this.#isDecompressing) return;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) this.next().then(waiting.resolve, waiting.reject);
  }
}

class CompressedFrame {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

type Frame = Uint8Array | CompressedFrame;

const TAKEN = new Uint8Array(0);
const DONE: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });

function done(): IteratorReturnResult<undefined> {
  return DONE;
}
