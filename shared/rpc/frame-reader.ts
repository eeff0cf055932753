import { Code, ConnectError } from "@connectrpc/connect";
import { PREFIX_BYTES } from "./frames.ts";

/** Flag of a frame whose data is compressed, in gRPC, gRPC-Web and Connect. */
export const COMPRESSED_FLAG = 0b1;

export interface FrameSink {
  /** @param data in memory of its own: fields of bytes are views of it, and must not keep the chunk alive */
  onFrame(flags: number, data: Uint8Array<ArrayBuffer>): void;
}

/** Splits a body into the length-prefixed frames of gRPC, gRPC-Web and Connect. Holds at most one incomplete frame. */
export class FrameReader {
  readonly #maxBytes: number;
  readonly #sink: FrameSink;
  #chunks: Buffer[] = [];
  #length = 0;
  /** Bytes from which the next frame can go on. */
  #wanted = PREFIX_BYTES;

  /** @param maxBytes maximum size of a frame's data */
  constructor(maxBytes: number, sink: FrameSink) {
    this.#maxBytes = maxBytes;
    this.#sink = sink;
  }

  /** @throws ConnectError RESOURCE_EXHAUSTED for a frame that announces more than `maxBytes`, before it is buffered */
  read(chunk: Buffer): void {
    let bytes = chunk;
    if (this.#length > 0) {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      if (this.#length < this.#wanted) return;
      bytes = Buffer.concat(this.#chunks, this.#length);
    }
    let at = 0;
    let wanted = PREFIX_BYTES;
    while (bytes.length - at >= PREFIX_BYTES) {
      const size = bytes.readUInt32BE(at + 1);
      if (size > this.#maxBytes) throw tooLarge(size, this.#maxBytes);
      wanted = PREFIX_BYTES + size;
      if (bytes.length - at < wanted) break;
      const from = at + PREFIX_BYTES;
      at += wanted;
      wanted = PREFIX_BYTES;
      this.#sink.onFrame(bytes[from - PREFIX_BYTES] ?? 0, new Uint8Array(bytes.subarray(from, at)));
    }
    this.#length = bytes.length - at;
    if (this.#length > 0) this.#chunks = [bytes.subarray(at)];
    else if (this.#chunks.length > 0) this.#chunks = [];
    this.#wanted = wanted;
  }

  /** Whether all that was read are whole frames. */
  get isBetweenFrames(): boolean {
    return this.#length === 0;
  }

  /** @throws ConnectError INVALID_ARGUMENT when the body ended inside a frame */
  end(): void {
    if (!this.isBetweenFrames) throw new ConnectError("protocol error: incomplete envelope", Code.InvalidArgument);
  }
}

/** Fails a message that is larger than the receiver allows. */
export function tooLarge(size: number, maxBytes: number): ConnectError {
  return new ConnectError(
    `message size ${size} is larger than configured readMaxBytes ${maxBytes}`,
    Code.ResourceExhausted,
  );
}
