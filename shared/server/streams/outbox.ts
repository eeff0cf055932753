import type { Http2ServerResponse } from "node:http2";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { frameMessages } from "#shared/rpc";
import { isClosed } from "../write-response.ts";

/** So much is written at once: a DATA frame, as large as peers take it. */
const BATCH_BYTES = 16 * 1024;

/**
 * Writes the messages of an answer as fast as the caller reads them. Those that come without a wait in between are
 * written together: with each of them alone, most of the work would be the frames'.
 */
export class Outbox {
  readonly #response: Http2ServerResponse;
  #batch: Uint8Array[] = [];
  #batchBytes = 0;
  #wake: (() => void) | undefined;
  readonly #flush = () => this.#write();

  constructor(response: Http2ServerResponse) {
    this.#response = response;
  }

  /** @returns when there is room for the next, if there is none */
  add(message: Uint8Array): Promise<void> | undefined {
    this.#batch.push(message);
    this.#batchBytes += message.length;
    // Ticks come when all is done that can be done without a wait.
    if (this.#batch.length === 1) process.nextTick(this.#flush);
    if (this.#batchBytes >= BATCH_BYTES) this.#write();
    return this.#room();
  }

  addCompressed(message: Uint8Array): Promise<void> | undefined {
    this.#write();
    this.#send(encodeEnvelope(1, message));
    return this.#room();
  }

  /** What is not written yet. */
  take(): Buffer | undefined {
    if (this.#batch.length === 0) return undefined;
    const bytes = frameMessages(this.#batch);
    this.#batch = [];
    this.#batchBytes = 0;
    return bytes;
  }

  /** The response has closed: whoever waits for room need not wait. */
  close(): void {
    this.#wake?.();
  }

  #write(): void {
    const bytes = this.take();
    if (bytes !== undefined) this.#send(bytes);
  }

  #send(bytes: Uint8Array): void {
    if (!isClosed(this.#response)) this.#response.write(bytes);
  }

  #room(): Promise<void> | undefined {
    const { stream } = this.#response;
    // Not what the last write has said: that may have been long ago, and there be room again.
    if (!stream.writableNeedDrain || isClosed(this.#response)) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    stream.once("drain", resolve);
    return promise.finally(() => {
      stream.off("drain", resolve);
      this.#wake = undefined;
    });
  }
}
