const FIRST_CAPACITY = 512;

/** The beginning of what has not come whole. It grows in leaps: a peer may send it byte by byte. */
export class Http1Begun {
  #bytes: Buffer;
  #length: number;

  /** @param bytes copied */
  constructor(bytes: Buffer) {
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(FIRST_CAPACITY, 2 * bytes.length));
    this.#length = bytes.copy(this.#bytes);
  }

  length(): number {
    return this.#length;
  }

  /** All that has come; good until more is added. */
  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** @param bytes copied */
  add(bytes: Buffer): void {
    const length = this.#length + bytes.length;
    if (length > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(2 * length);
      this.bytes().copy(larger);
      this.#bytes = larger;
    }
    bytes.copy(this.#bytes, this.#length);
    this.#length = length;
  }
}
