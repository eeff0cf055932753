import { PREFIX_BYTES } from "#shared/rpc";
import { assertReadable } from "./codec.ts";

/** Cuts the frames of gRPC and Connect streams out of a body. */
export class FrameReader {
  readonly #maxBytes: number;
  readonly #onFrame: (flags: number, bytes: Uint8Array) => void;
  #chunks: Buffer[] = [];
  #length = 0;
  /** How many bytes there must be before there is something to do. */
  #wanted = PREFIX_BYTES;

  /**
   * @param maxBytes of a message
   * @param onFrame gets bytes in memory of their own: a message must not keep all that came with it
   */
  constructor(maxBytes: number, onFrame: (flags: number, bytes: Uint8Array) => void) {
    this.#maxBytes = maxBytes;
    this.#onFrame = onFrame;
  }

  /** @throws ConnectError when a message is larger than the limit, and what `onFrame` throws */
  read(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length < this.#wanted) return;
    const bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    let at = 0;
    let wanted = PREFIX_BYTES;
    while (bytes.length - at >= PREFIX_BYTES) {
      const size = bytes.readUInt32BE(at + 1);
      assertReadable(size, this.#maxBytes, true);
      wanted = PREFIX_BYTES + size;
      if (bytes.length - at < wanted) break;
      const flags = bytes[at] ?? 0;
      const message = new Uint8Array(bytes.subarray(at + PREFIX_BYTES, at + wanted));
      at += wanted;
      wanted = PREFIX_BYTES;
      this.#onFrame(flags, message);
    }
    this.#chunks = at === bytes.length ? [] : [bytes.subarray(at)];
    this.#length = bytes.length - at;
    this.#wanted = wanted;
  }

  isBetweenFrames(): boolean {
    return this.#length === 0;
  }
}
