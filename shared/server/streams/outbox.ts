import type { ServerResponse } from "node:http";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { frameMessages } from "#shared/streams";
import type { Response } from "../unary/answer.ts";
import { isClosed } from "../write-response.ts";

/** So much is written at once: a DATA frame, as large as peers take it. */
const BATCH_BYTES = 16 * 1024;

/**
 * Writes the messages of an answer as fast as the caller reads them. Those that come without a wait in between are
 * written together: with each of them alone, most of the work would be the frames'.
 */
export class Outbox {
  readonly #response: Response;
  #batch: Uint8Array[] = [];
  #batchBytes = 0;
  #isFull = false;
  #wake: (() => void) | undefined;
  readonly #flush = () => this.#write();

  constructor(response: Response) {
    this.#response = response;
  }

  /** @returns when there is room for the next, if there is none */
  add(message: Uint8Array): Promise<void> | undefined {
    this.#batch.push(message);
    this.#batchBytes += message.length;
    // Ticks come when all is done that can be done without a wait.
    if (this.#batch.length === 1) process.nextTick(this.#flush);
    if (this.#batchBytes >= BATCH_BYTES) this.#write();
    return this.#isFull ? this.#drained() : undefined;
  }

  addCompressed(message: Uint8Array): Promise<void> | undefined {
    this.#write();
    this.#send(encodeEnvelope(1, message));
    return this.#isFull ? this.#drained() : undefined;
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
    // The overloads of the two classes have no call in common.
    if (!isClosed(this.#response)) this.#isFull = !(this.#response as ServerResponse).write(bytes);
  }

  async #drained(): Promise<void> {
    const response = this.#response;
    const writable = "stream" in response ? response.stream : response;
    this.#isFull = false;
    if (isClosed(response)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    writable.once("drain", resolve);
    await promise;
    writable.off("drain", resolve);
    this.#wake = undefined;
  }
}
