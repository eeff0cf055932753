import type { Readable } from "node:stream";
import { PREFIX_BYTES } from "#shared/rpc";

export interface MessageReaderOptions {
  /** Of gRPC, with a prefix. */
  readonly isFramed: boolean;
  readonly readMaxBytes: number;
  /** What the headers promise, where there is no prefix. */
  readonly contentLength: number | undefined;
}

export interface MessageSink {
  /** All of the body has come, and it is this one message. Called at most once, as is `onOdd`. */
  onMessage(message: Uint8Array): void;
  /**
   * The body is something else, or has turned out to be too large.
   *
   * @param body what has come of it, and all that is to come
   */
  onOdd(body: AsyncIterable<Uint8Array>): void;
}

/** Where a source has its reader. */
const reader = Symbol("reader");

type Source = Readable & { [reader]?: MessageReader | undefined };

/** Reads a body of a single message, and knows as soon as it comes that it is none. */
export class MessageReader {
  readonly #source: Source;
  readonly #sink: MessageSink;
  readonly #isFramed: boolean;
  readonly #readMaxBytes: number;
  readonly #chunks: Buffer[] = [];
  #length = 0;
  /** How many bytes there should be in all; undefined until a prefix tells. */
  #wanted: number | undefined;
  constructor(source: Readable, sink: MessageSink, { isFramed, readMaxBytes, contentLength }: MessageReaderOptions) {
    this.#source = source;
    this.#sink = sink;
    this.#isFramed = isFramed;
    this.#readMaxBytes = readMaxBytes;
    this.#wanted = contentLength;
    this.#source[reader] = this;
    source.on("data", onData);
    source.on("end", onEnd);
  }

  /** Leaves the rest unread. */
  stop(): void {
    this.#source[reader] = undefined;
    this.#source.off("data", onData);
    this.#source.off("end", onEnd);
  }

  /** Stops, and gives what has come and all that is to come. */
  handOn(): AsyncIterable<Uint8Array> {
    this.stop();
    if (this.#source.readableEnded) return joined(this.#chunks, undefined);
    this.#source.pause();
    return joined(this.#chunks, this.#source);
  }

  /** For its listener, as is `end`. */
  add(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    const readMaxBytes = this.#readMaxBytes;
    if (this.#isFramed && this.#wanted === undefined && this.#length >= PREFIX_BYTES) {
      const [first = chunk] = this.#chunks;
      const prefix = first.length >= PREFIX_BYTES ? first : Buffer.concat(this.#chunks);
      const size = prefix.readUInt32BE(1);
      if (prefix[0] !== 0 || size > readMaxBytes) {
        this.#sink.onOdd(this.handOn());
        return;
      }
      this.#wanted = PREFIX_BYTES + size;
    }
    if (this.#length > (this.#wanted ?? readMaxBytes + PREFIX_BYTES)) this.#sink.onOdd(this.handOn());
  }

  end(): void {
    const isFramed = this.#isFramed;
    this.#source[reader] = undefined;
    const isWhole =
      this.#wanted === undefined ? !isFramed && this.#length <= this.#readMaxBytes : this.#length === this.#wanted;
    if (isWhole) this.#sink.onMessage(this.#message(isFramed ? PREFIX_BYTES : 0));
    else this.#sink.onOdd(this.handOn());
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

// The same for all: an HTTP/2 stream's lists of listeners outlive the stream, and what they refer to would as well.
function onData(this: Source, chunk: Buffer): void {
  this[reader]?.add(chunk);
}

function onEnd(this: Source): void {
  this[reader]?.end();
}
