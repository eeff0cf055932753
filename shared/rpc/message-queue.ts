import { Code, ConnectError } from "@connectrpc/connect";
import { COMPRESSED_FLAG, FrameReader, type FrameSink } from "./frame-reader.ts";

/** Controls the source of a queue's chunks. */
export interface Flow {
  pause(): void;
  resume(): void;
}

export interface Decompression {
  decompress(bytes: Uint8Array<ArrayBuffer>, maxBytes: number): Promise<Uint8Array<ArrayBuffer>>;
}

export interface MessageQueueOptions<T> {
  /** Starts, pauses and resumes the source. `resume` is called first when the reader first asks. */
  readonly flow: Flow;
  /** Maximum size of a message, compressed or not. */
  readonly maxBytes: number;
  /** Of messages with the compressed flag. Null: such a message is INTERNAL. */
  readonly decompression: Decompression | null;
  /** Flag of a frame that is no message and ends the stream: of gRPC-Web or Connect. 0: there is none. */
  readonly endFlag: number;
  parse(bytes: Uint8Array<ArrayBuffer>): T;
  /** Called when a message of the peer cannot be decoded, before the reader receives the reason. */
  readonly onInvalid?: (() => void) | undefined;
  /** Receives a frame with `endFlag`, which is decompressed. Default: such frames are skipped. */
  readonly onEndFrame?: ((data: Uint8Array<ArrayBuffer>) => void) | undefined;
}

interface Frame {
  readonly flags: number;
  readonly data: Uint8Array<ArrayBuffer>;
}

/**
 * The messages of a stream, for one reader: chunks of the body go in, parsed messages come out. The source is read no
 * further than one chunk and one message ahead of the reader.
 */
export class MessageQueue<T> implements AsyncIterable<T>, AsyncIterator<T, undefined>, FrameSink {
  readonly #options: MessageQueueOptions<T>;
  readonly #frames: FrameReader;
  #queue: Frame[] = [];
  #next = 0;
  #state: "open" | "ended" | "closed" = "open";
  #isPaused = true;
  #failure: { readonly reason: unknown } | undefined;
  #waiting: PromiseWithResolvers<IteratorResult<T, undefined>> | undefined;
  /** A read that decompresses. */
  #busy: Promise<unknown> | undefined;
  readonly #again = () => this.next();

  constructor(options: MessageQueueOptions<T>) {
    this.#options = options;
    this.#frames = new FrameReader(options.maxBytes, this);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Takes a chunk of the body. */
  push(chunk: Buffer): void {
    if (this.#state !== "open") return;
    try {
      this.#frames.read(chunk);
    } catch (error) {
      this.#options.onInvalid?.();
      this.fail(error);
      return;
    }
    if (this.#waiting !== undefined) this.#wake();
    // One message is often the only one, with the end right behind it.
    if (this.#queue.length - this.#next > MAX_AHEAD) this.#pause();
  }

  /** The body is complete. */
  end(): void {
    if (this.#state !== "open") return;
    try {
      this.#frames.end();
    } catch (error) {
      this.#options.onInvalid?.();
      this.fail(error);
      return;
    }
    this.#state = "ended";
    this.#wake();
  }

  /** Ends the stream early. Messages that have arrived can be read; each read after them fails with the reason. */
  fail(reason: unknown): void {
    if (this.#failure !== undefined || this.#state === "closed") return;
    if (this.#state === "ended" && this.#next === this.#queue.length) return;
    this.#state = "ended";
    this.#failure = { reason };
    this.#pause();
    this.#wake();
  }

  onFrame(flags: number, data: Uint8Array<ArrayBuffer>): void {
    this.#queue.push({ flags, data });
  }

  next(): Promise<IteratorResult<T, undefined>> {
    // As in a generator, one step waits for the one before it.
    const before = this.#waiting?.promise ?? this.#busy;
    if (before !== undefined) return before.then(this.#again, this.#again);
    const frame = this.#queue[this.#next];
    if (frame !== undefined) {
      this.#take();
      return this.#read(frame);
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure.reason);
    if (this.#state !== "open") return Promise.resolve(DONE);
    this.#waiting = Promise.withResolvers();
    const { promise } = this.#waiting;
    if (this.#isPaused) {
      this.#isPaused = false;
      this.#options.flow.resume();
    }
    return promise;
  }

  /** Stops reading: the rest of the body is left where it is. */
  async return(): Promise<IteratorReturnResult<undefined>> {
    if (this.#state !== "closed") {
      this.#state = "closed";
      this.#failure = undefined;
      this.#queue = [];
      this.#next = 0;
      this.#pause();
      this.#wake();
    }
    return DONE;
  }

  async throw(reason: unknown): Promise<never> {
    await this.return();
    throw reason;
  }

  #take(): void {
    if (++this.#next === this.#queue.length) {
      this.#queue = [];
      this.#next = 0;
    }
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#options.flow.pause();
  }

  #read(frame: Frame): Promise<IteratorResult<T, undefined>> {
    const { flags, data } = frame;
    if ((flags & COMPRESSED_FLAG) !== 0) return this.#decompress(frame);
    if ((flags & this.#options.endFlag) !== 0) return this.#endFrame(data);
    try {
      return Promise.resolve({ done: false, value: this.#options.parse(data) });
    } catch (reason) {
      this.#break(reason);
      return Promise.reject(reason);
    }
  }

  #decompress({ flags, data }: Frame): Promise<IteratorResult<T, undefined>> {
    const { decompression, maxBytes } = this.#options;
    if (decompression === null) {
      const reason = compressedWithoutEncoding();
      this.#break(reason);
      return Promise.reject(reason);
    }
    const busy = decompression.decompress(data, maxBytes).then(
      (plain) => {
        this.#busy = undefined;
        return this.#read({ flags: flags & ~COMPRESSED_FLAG, data: plain });
      },
      (reason: unknown) => {
        this.#busy = undefined;
        this.#break(reason);
        throw reason;
      },
    );
    this.#busy = busy;
    return busy;
  }

  #endFrame(data: Uint8Array<ArrayBuffer>): Promise<IteratorResult<T, undefined>> {
    try {
      this.#options.onEndFrame?.(data);
    } catch (reason) {
      this.#break(reason);
      return Promise.reject(reason);
    }
    return this.next();
  }

  /** What cannot be read ends the stream: what follows has no meaning. */
  #break(reason: unknown): void {
    if (this.#state === "closed") return;
    this.#options.onInvalid?.();
    this.#queue = [];
    this.#next = 0;
    this.#state = "ended";
    this.#failure = { reason };
    this.#pause();
  }

  /** The reader that waits asks again. */
  #wake(): void {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    if (this.#state === "open" && this.#next === this.#queue.length) return;
    this.#waiting = undefined;
    this.next().then(waiting.resolve, waiting.reject);
  }
}

const MAX_AHEAD = 1;
const DONE: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });

/** Fails a message with the compressed flag in a stream whose head names no encoding. */
export function compressedWithoutEncoding(): ConnectError {
  return new ConnectError("received compressed envelope, but do not know how to decompress", Code.Internal);
}
