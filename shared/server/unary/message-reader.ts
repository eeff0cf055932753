import type { Readable } from "node:stream";

/** Flags and length before a message in gRPC and gRPC-Web. */
const PREFIX_BYTES = 5;

export interface MessageReaderOptions {
  /** Of gRPC, with a prefix. */
  readonly isFramed: boolean;
  readonly readMaxBytes: number;
  /** What the headers promise, where there is no prefix. */
  readonly contentLength: number | undefined;
  /** All of the body has come, and it is this one message. Called at most once, as is `onOdd`. */
  onMessage(message: Uint8Array): void;
  /**
   * The body is something else, or has turned out to be too large.
   *
   * @param body what has come of it, and all that is to come
   */
  onOdd(body: AsyncIterable<Uint8Array>): void;
}

/** Reads a body of a single message, and knows as soon as it comes that it is none. */
export class MessageReader {
  readonly #source: Readable;
  readonly #options: MessageReaderOptions;
  readonly #chunks: Buffer[] = [];
  #length = 0;
  /** How many bytes there should be in all; undefined until a prefix tells. */
  #wanted: number | undefined;
  readonly #onData = (chunk: Buffer) => this.#add(chunk);
  readonly #onEnd = () => this.#end();

  constructor(source: Readable, options: MessageReaderOptions) {
    this.#source = source;
    this.#options = options;
    this.#wanted = options.contentLength;
    source.on("data", this.#onData);
    source.on("end", this.#onEnd);
  }

  /** Leaves the rest unread. */
  stop(): void {
    this.#source.off("data", this.#onData);
    this.#source.off("end", this.#onEnd);
  }

  /** Stops, and gives what has come and all that is to come. */
  handOn(): AsyncIterable<Uint8Array> {
    this.stop();
    if (this.#source.readableEnded) return joined(this.#chunks, undefined);
    this.#source.pause();
    return joined(this.#chunks, this.#source);
  }

  #add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const { isFramed, readMaxBytes } = this.#options;
    if (isFramed && this.#wanted === undefined && this.#length >= PREFIX_BYTES) {
      const [first = chunk] = this.#chunks;
      const prefix = first.length >= PREFIX_BYTES ? first : Buffer.concat(this.#chunks);
      const size = prefix.readUInt32BE(1);
      if (prefix[0] !== 0 || size > readMaxBytes) {
        this.#options.onOdd(this.handOn());
        return;
      }
      this.#wanted = PREFIX_BYTES + size;
    }
    if (this.#length > (this.#wanted ?? readMaxBytes + PREFIX_BYTES)) this.#options.onOdd(this.handOn());
  }

  #end(): void {
    const { isFramed, readMaxBytes, onMessage, onOdd } = this.#options;
    this.stop();
    const isWhole =
      this.#wanted === undefined ? !isFramed && this.#length <= readMaxBytes : this.#length === this.#wanted;
    if (isWhole) onMessage(this.#message(isFramed ? PREFIX_BYTES : 0));
    else onOdd(this.handOn());
  }

  /** A copy in memory of its own: fields of bytes are views of it, and must not keep all that came with it. */
  #message(from: number): Uint8Array {
    const message = new Uint8Array(this.#length - from);
    let at = -from;
    for (const chunk of this.#chunks) {
      if (at >= 0) message.set(chunk, at);
      else if (chunk.length > -at) message.set(chunk.subarray(-at), 0);
      at += chunk.length;
    }
    return message;
  }
}

async function* joined(chunks: readonly Buffer[], rest: Readable | undefined): AsyncGenerator<Uint8Array> {
  yield* chunks;
  if (rest !== undefined) yield* rest.iterator({ destroyOnReturn: false });
}
