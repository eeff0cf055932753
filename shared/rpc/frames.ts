/** Flags and the length, before each message of gRPC and gRPC-Web. */
export const PREFIX_BYTES = 5;

/**
 * Cuts the plain messages out of the body of a gRPC stream. It knows nothing of compression and of limits that are
 * passed: where one of the two comes, it says so and stops, and somebody else has to read on from there.
 */
export class FrameDecoder {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #length = 0;
  /** How many bytes there have to be before there is something to do. */
  #wanted = PREFIX_BYTES;

  /** @param maxBytes of a message */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * @returns the messages that are whole now, each in memory of its own: fields of bytes are views of it, and must not
   * keep all that came with it. Undefined when one of those that begin in the chunk is not plain; then `rest` has what is
   * to be read on from.
   */
  decode(chunk: Buffer): Uint8Array[] | undefined {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length < this.#wanted) return [];
    const bytes = this.rest();
    const messages: Uint8Array[] = [];
    let at = 0;
    let wanted = PREFIX_BYTES;
    while (bytes.length - at >= PREFIX_BYTES) {
      const size = bytes.readUInt32BE(at + 1);
      if (bytes[at] !== 0 || size > this.#maxBytes) {
        this.#chunks = [bytes];
        return undefined;
      }
      wanted = PREFIX_BYTES + size;
      if (bytes.length - at < wanted) break;
      messages.push(new Uint8Array(bytes.subarray(at + PREFIX_BYTES, at + wanted)));
      at += wanted;
      wanted = PREFIX_BYTES;
    }
    this.#chunks = at === bytes.length ? [] : [bytes.subarray(at)];
    this.#length = bytes.length - at;
    this.#wanted = wanted;
    return messages;
  }

  /** What has come and is in no message yet. */
  rest(): Buffer {
    const [first] = this.#chunks;
    return this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks);
  }

  /** Whether there is anything in `rest`. */
  isBetweenMessages(): boolean {
    return this.#length === 0;
  }
}

/** The messages in their frames, as they go over the wire. */
export function frameMessages(messages: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const message of messages) length += PREFIX_BYTES + message.length;
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for (const message of messages) {
    bytes[at] = 0;
    bytes.writeUInt32BE(message.length, at + 1);
    bytes.set(message, at + PREFIX_BYTES);
    at += PREFIX_BYTES + message.length;
  }
  return bytes;
}

/** One frame. */
export function encodeFrame(flags: number, data: Uint8Array): Buffer {
  const bytes = frameMessages([data]);
  bytes[0] = flags;
  return bytes;
}
