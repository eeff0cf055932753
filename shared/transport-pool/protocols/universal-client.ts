import type { IncomingHttpHeaders } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalClientRequest, UniversalClientResponse } from "@connectrpc/connect/protocol";
import { countBytes, type OutgoingCall } from "../call/outgoing-call.ts";
import type {
  ClientExchange,
  ExchangeFailure,
  RequestHead,
  ResponseHeaders,
  ResponseSink,
} from "../connections/exchange.ts";
import { errorFromNode } from "../connections/node-errors.ts";
import type { Subchannel } from "../connections/subchannel.ts";
import { failureError } from "./failure-error.ts";
import { toRawHeaders, toWebHeaders } from "./node-headers.ts";
import { ResponseBody } from "./response-body.ts";

export interface UniversalExchangeOptions {
  readonly subchannel: Subchannel;
  readonly path: string;
  /** The whole body is sent at once, so that it has a length over HTTP/1.1. */
  readonly isUnary: boolean;
  readonly call: OutgoingCall | undefined;
  /** Makes fields readable for Connect, which gives the code of a failure up when it cannot read its message. */
  readonly readable: (fields: IncomingHttpHeaders) => IncomingHttpHeaders;
}

/** Sends what Connect's own transports make on the pool's connections. */
export class UniversalExchange implements RequestHead, ResponseSink {
  readonly method: string;
  readonly path: string;
  headers: readonly string[] = [];
  readonly response: Promise<UniversalClientResponse>;
  readonly #resolve: (response: UniversalClientResponse) => void;
  readonly #reject: (reason: unknown) => void;
  readonly #request: UniversalClientRequest;
  readonly #options: UniversalExchangeOptions;
  readonly #onAbort = () => this.#fail(errorFromNode(this.#request.signal?.reason));
  readonly #trailer = new Headers();
  readonly #body = new ResponseBody({ pause: () => this.#exchange?.pause(), resume: () => this.#exchange?.resume() });
  #exchange: ClientExchange | undefined;
  #onDrained: (() => void) | undefined;
  #isOver = false;

  constructor(request: UniversalClientRequest, options: UniversalExchangeOptions) {
    const { promise, resolve, reject } = Promise.withResolvers<UniversalClientResponse>();
    this.method = request.method;
    this.path = options.path;
    this.response = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#request = request;
    this.#options = options;
  }

  /** Never rejects. */
  async begin(): Promise<void> {
    const signal = this.#request.signal ?? new AbortController().signal;
    const { subchannel, isUnary } = this.#options;
    signal.addEventListener("abort", this.#onAbort);
    try {
      signal.throwIfAborted();
      this.headers = toRawHeaders(this.#request.header, undefined);
      const body = isUnary ? await bytesOf(this.#request.body) : undefined;
      if (this.#isOver) return;
      const exchange = await subchannel.open(this, this, signal);
      this.#exchange = exchange;
      if (this.#isOver) exchange.cancel();
      else if (isUnary) {
        countBytes(this.#options.call, body?.length ?? 0, 0);
        exchange.end(body);
      } else await this.#send(exchange);
    } catch (error) {
      this.#fail(errorFromNode(error));
    }
  }

  onHeaders(headers: ResponseHeaders): void {
    const header = toWebHeaders(this.#options.readable(headers));
    this.#resolve({ status: headers[":status"] ?? 0, header, body: this.#body, trailer: this.#trailer });
  }

  onData(chunk: Buffer): void {
    countBytes(this.#options.call, 0, chunk.length);
    if (!this.#isOver) this.#body.push(chunk);
  }

  onTrailers(trailers: IncomingHttpHeaders): void {
    for (const [name, value] of toWebHeaders(this.#options.readable(trailers))) this.#trailer.set(name, value);
  }

  onDrain(): void {
    this.#onDrained?.();
  }

  onEnd(): void {
    if (this.#isOver) return;
    this.#over();
    this.#reject(new ConnectError("protocol error: missing headers", Code.Internal));
    this.#body.end();
  }

  onError(failure: ExchangeFailure): void {
    this.#fail(failureError(failure, this.#options.call?.deadlineMs));
  }

  async #send(exchange: ClientExchange): Promise<void> {
    for await (const chunk of this.#request.body ?? []) {
      countBytes(this.#options.call, chunk.length, 0);
      if (!this.#isOver && !exchange.write(chunk)) await this.#drained();
      if (this.#isOver) return;
    }
    exchange.end();
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#onDrained = resolve;
    });
  }

  #fail(reason: unknown): void {
    if (this.#isOver) return;
    this.#over();
    this.#exchange?.cancel();
    this.#reject(reason);
    this.#body.fail(reason);
  }

  #over(): void {
    this.#isOver = true;
    this.#request.signal?.removeEventListener("abort", this.#onAbort);
    this.#onDrained?.();
  }
}

async function bytesOf(body: AsyncIterable<Uint8Array> | undefined): Promise<Uint8Array | undefined> {
  if (body === undefined) return undefined;
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
}
