import { getEventListeners } from "node:events";
import { Code, ConnectError, type UnaryRequest } from "@connectrpc/connect";
import { COMPRESSED_FLAG, compressedWithoutEncoding, FrameReader, type FrameSink, tooLarge } from "#shared/rpc";
import { CALL_COMPLETED, ServerCall } from "./call.ts";
import { IncomingRequest, replaceHeaders } from "./context.ts";
import { extraMessage, missingMessage } from "./method.ts";
import { respondFailure, respondMessage } from "./response.ts";
import { asConnectError } from "./status.ts";

/** A unary call: the whole request is read, the handler runs, the whole response is written. */
export class UnaryCall extends ServerCall implements FrameSink {
  readonly #frames = this.format.isFramed ? new FrameReader(this.options.readMaxBytes, this) : undefined;
  /** Of a body without frames. */
  #chunks: Buffer[] = [];
  #length = 0;
  #flags = 0;
  #message: Uint8Array<ArrayBuffer> | undefined = undefined;

  protected readBody(): void {
    const { readMaxBytes } = this.options;
    const length = Number(this.exchange.headers["content-length"] ?? 0);
    if (!this.format.isFramed && length > readMaxBytes) this.fail(tooLarge(length, readMaxBytes));
    else this.exchange.read();
  }

  onData(chunk: Buffer): void {
    if (this.state !== "reading") return;
    if (this.#frames === undefined) {
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      const { readMaxBytes } = this.options;
      if (this.#length > readMaxBytes) this.fail(tooLarge(this.#length, readMaxBytes));
      return;
    }
    try {
      this.#frames.read(chunk);
    } catch (error) {
      this.fail(asConnectError(error));
    }
  }

  onFrame(flags: number, data: Uint8Array<ArrayBuffer>): void {
    // Trailers of a request say nothing to a handler.
    if ((flags & this.format.endFlag) !== 0) return;
    if (this.#message !== undefined) throw extraMessage("unary");
    this.#flags = flags;
    this.#message = data;
  }

  onEnd(): void {
    if (this.state !== "reading") return;
    const { format, decompression } = this;
    try {
      this.#frames?.end();
      const message = format.isFramed ? this.#message : this.#body();
      if (message === undefined) throw missingMessage("unary");
      const isCompressed = format.isFramed ? (this.#flags & COMPRESSED_FLAG) !== 0 : decompression !== null;
      if (!isCompressed) {
        this.#run(message);
        return;
      }
      if (decompression === null) throw compressedWithoutEncoding();
      decompression.decompress(message, this.options.readMaxBytes).then(
        (bytes) => this.#run(bytes),
        (error: unknown) => this.#unreadable(error),
      );
    } catch (error) {
      this.#unreadable(error);
    }
  }

  onDrain(): void {}

  /** In memory of its own: fields of bytes are views of it, and must not keep all that came with it. */
  #body(): Uint8Array<ArrayBuffer> {
    const body = new Uint8Array(this.#length);
    let at = 0;
    for (const chunk of this.#chunks) {
      body.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [];
    return body;
  }

  #run(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.state !== "reading") return;
    let message: UnaryRequest["message"];
    try {
      message = this.prepared.codecs.input[`${this.format.isBinary}`].parse(bytes);
    } catch (error) {
      this.#unreadable(error);
      return;
    }
    this.state = "running";
    void this.#handle(new IncomingRequest(this.context, message));
  }

  #unreadable(error: unknown): void {
    if (this.state !== "reading") return;
    const failure = asConnectError(error);
    // By Connect's own protocol that is the caller's fault. gRPC's table of codes has INTERNAL for it.
    const isTheirs = !this.format.isFramed && failure.code === Code.Internal;
    this.fail(isTheirs ? new ConnectError(failure.rawMessage, Code.InvalidArgument) : failure);
  }

  /** Never rejects. */
  async #handle(request: UnaryRequest): Promise<void> {
    const { context, prepared, format } = this;
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      const { message, header, trailer } = await prepared.invokeUnary(request);
      replaceHeaders(context.responseHeader, header);
      replaceHeaders(context.responseTrailer, trailer);
      try {
        bytes = prepared.codecs.output[`${format.isBinary}`].serialize(message);
      } catch (error) {
        this.isUnlogged = true;
        throw error;
      }
    } catch (error) {
      this.#failed(error);
      return;
    }
    // An abort costs as much as the rest of the context, so it is skipped while no listener is registered.
    if (getEventListeners(context.signal, "abort").length > 0) this.signalAbort(CALL_COMPLETED);
    this.respond(() => {
      try {
        respondMessage(this, bytes)?.catch((error: unknown) => this.#unsendable(error));
      } catch (error) {
        this.#unsendable(error);
      }
    });
  }

  #unsendable(error: unknown): void {
    this.isUnlogged = true;
    this.#failed(error);
  }

  #failed(error: unknown): void {
    const failure = asConnectError(error);
    this.failure ??= failure;
    this.signalAbort(error);
    this.respond(() => respondFailure(this, failure));
  }
}
