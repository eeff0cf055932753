import { getEventListeners } from "node:events";
import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type StreamRequest } from "@connectrpc/connect";
import { COMPRESSED_FLAG, encodeFrame, type Flow, frameMessages, MessageQueue } from "#shared/rpc";
import type { ExchangeEnd } from "../http/exchange.ts";
import { CALL_COMPLETED, clientDisconnected, ServerCall } from "./call.ts";
import { replaceHeaders } from "./context.ts";
import { endStream, respondFailure, writeStreamHead } from "./response.ts";
import { asConnectError } from "./status.ts";

/** So much is written at once: a DATA frame, as large as peers take it. */
const BATCH_BYTES = 16 * 1024;
/** After so much, other calls have a turn: a socket that takes everything at once would never let them. */
const MAX_TURN_BYTES = 64 * 1024;

/**
 * A call that streams in one direction or both. Messages that the handler yields without a wait in between are written
 * together: alone, most of the work would be the frames'.
 */
export class StreamCall extends ServerCall implements Flow {
  readonly #requests: MessageQueue<Message> = this.#createQueue();
  #batch: Uint8Array[] = [];
  #batchBytes = 0;
  #turnBytes = 0;
  #room: PromiseWithResolvers<void> | undefined = undefined;
  #items: AsyncIterator<Message> | undefined = undefined;
  readonly #flush = () => this.#writeBatch();

  #createQueue(): MessageQueue<Message> {
    const codec = this.prepared.codecs.input[`${this.format.isBinary}`];
    return new MessageQueue({
      flow: this,
      maxBytes: this.options.readMaxBytes,
      decompression: this.decompression,
      endFlag: this.format.endFlag,
      parse: codec.parse,
      onInvalid: () => {
        this.isCallersFault = true;
      },
    });
  }

  /** Nothing is read before the handler asks. */
  protected readBody(): void {
    this.state = "running";
    void this.#handle();
  }

  resume(): void {
    this.exchange.read();
  }

  pause(): void {
    this.exchange.pause();
  }

  onData(chunk: Buffer): void {
    this.#requests.push(chunk);
  }

  onEnd(): void {
    this.#requests.end();
  }

  onDrain(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  override onClose(end: ExchangeEnd): void {
    super.onClose(end);
    // For what a handler has left reading, and the one that waits for room.
    this.#requests.fail(this.failure ?? clientDisconnected(end));
    this.onDrain();
  }

  protected override signalAbort(reason: unknown): void {
    super.signalAbort(reason);
    if (reason === CALL_COMPLETED) return;
    this.#requests.fail(reason);
    // What waits for room goes on to the end.
    this.onDrain();
  }

  /** Never rejects. */
  async #handle(): Promise<void> {
    const { context, prepared } = this;
    try {
      const { message, header, trailer } = await prepared.invokeStream(this.#request());
      replaceHeaders(context.responseHeader, header);
      if (!(await this.#send(message as AsyncIterable<Message>))) return;
      replaceHeaders(context.responseTrailer, trailer);
    } catch (error) {
      this.#failed(error);
      return;
    }
    if (getEventListeners(context.signal, "abort").length > 0) this.signalAbort(CALL_COMPLETED);
    this.respond(() => this.#finish(undefined));
    this.#requests.fail(CALL_OVER);
  }

  #failed(error: unknown): void {
    const failure = asConnectError(error);
    this.failure ??= failure;
    this.signalAbort(error);
    this.respond(() => this.#finish(failure));
  }

  /** @returns whether all was sent; false when the caller has left */
  async #send(messages: AsyncIterable<Message>): Promise<boolean> {
    const { exchange } = this;
    const items = messages[Symbol.asyncIterator]();
    this.#items = items;
    for (;;) {
      const result = await items.next();
      if (result.done === true) return true;
      if (exchange.state === "open") {
        try {
          if (!exchange.isHeadWritten) writeStreamHead(this);
          const room = this.#add(result.value);
          if (room !== undefined) await room;
        } catch (error) {
          this.#leave();
          this.isUnlogged = true;
          throw error;
        }
      }
      if (exchange.state !== "open") {
        this.#leave();
        return false;
      }
    }
  }

  /** Closes the handler's stream. What its `finally` does is not waited for: it may hang. */
  #leave(): void {
    this.#items?.return?.().catch(() => {});
  }

  #request(): StreamRequest {
    const { service, method, requestMethod, url, signal, requestHeader, values } = this.context;
    return {
      stream: true,
      message: this.#requests,
      service,
      method: method as StreamRequest["method"],
      requestMethod,
      url,
      signal,
      header: requestHeader,
      contextValues: values,
    };
  }

  /** @returns when there is room for the next, if there is none */
  #add(message: Message): Promise<void> | undefined {
    const { prepared, format, compression, options } = this;
    const bytes = prepared.codecs.output[`${format.isBinary}`].serialize(message);
    if (compression !== null && bytes.length >= options.compressMinBytes) {
      return compression.compress(bytes).then((compressed) => {
        this.#writeBatch();
        this.#write(encodeFrame(COMPRESSED_FLAG, compressed));
        return this.#waitForRoom();
      });
    }
    this.#batch.push(bytes);
    this.#batchBytes += bytes.length;
    // Ticks come when all is done that can be done without a wait.
    if (this.#batch.length === 1) process.nextTick(this.#flush);
    if (this.#batchBytes >= BATCH_BYTES) this.#writeBatch();
    return this.#waitForRoom();
  }

  #write(bytes: Uint8Array): void {
    this.#turnBytes += bytes.length;
    if (this.exchange.state === "open") this.exchange.write(bytes);
  }

  #writeBatch(): void {
    const bytes = this.#takeBatch();
    if (bytes !== undefined) this.#write(bytes);
  }

  #takeBatch(): Buffer | undefined {
    if (this.#batch.length === 0) return undefined;
    const bytes = frameMessages(this.#batch);
    this.#batch = [];
    this.#batchBytes = 0;
    return bytes;
  }

  #waitForRoom(): Promise<void> | undefined {
    // Not what the last write has returned: that may have been long ago, and there be room again.
    if (this.exchange.state !== "open") return undefined;
    if (this.exchange.needsDrain) {
      this.#room ??= Promise.withResolvers();
      return this.#room.promise;
    }
    if (this.#turnBytes < MAX_TURN_BYTES) return undefined;
    this.#turnBytes = 0;
    return new Promise(setImmediate);
  }

  #finish(failure: ConnectError | undefined): void {
    if (this.exchange.isHeadWritten) {
      endStream(this, failure, this.#takeBatch());
      return;
    }
    if (failure !== undefined) {
      respondFailure(this, failure);
      return;
    }
    writeStreamHead(this);
    endStream(this, undefined, undefined);
  }
}

const CALL_OVER = new ConnectError("the call is over", Code.Canceled);
