import type {
  DescMessage,
  DescMethodStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";

type Method = DescMethodStreaming<DescMessage, DescMessage>;
type Input = MessageInitShape<DescMessage>;
type Output = MessageShape<DescMessage>;

/** Connect's client, with one difference: leaving the loop over a response stream cancels the call. */
export function createStreamClient<Service extends DescService>(
  service: Service,
  transport: Transport,
): Client<Service> {
  const client: Client<Service> = createClient(service, transport);
  const methods: Record<string, unknown> = client;
  for (const method of service.methods as readonly (DescMethodUnary | Method)[]) {
    if (method.methodKind === "server_streaming") {
      methods[method.localName] = (input: Input, options?: CallOptions) =>
        new Responses(transport, method, single(input), options);
    } else if (method.methodKind === "bidi_streaming") {
      methods[method.localName] = (input: AsyncIterable<Input>, options?: CallOptions) =>
        new Responses(transport, method, input, options);
    }
  }
  return client;
}

async function* single<T>(item: T): AsyncGenerator<T, void> {
  yield item;
}

/** The messages of one response stream, for one reader. */
class Responses implements AsyncIterable<Output>, AsyncIterator<Output, undefined> {
  readonly #options: CallOptions | undefined;
  readonly #leaving = new AbortController();
  readonly #response: ReturnType<Transport["stream"]>;
  #trailer: Headers | undefined;
  #messages: AsyncIterator<Output> | undefined;
  #isOver = false;

  constructor(transport: Transport, method: Method, input: AsyncIterable<Input>, options: CallOptions | undefined) {
    const { signal: own, timeoutMs, headers, contextValues } = options ?? {};
    const signal = own === undefined ? this.#leaving.signal : AbortSignal.any([own, this.#leaving.signal]);
    this.#options = options;
    this.#response = transport.stream(method, signal, timeoutMs, headers, input, contextValues);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Output, undefined>> {
    if (this.#isOver) return DONE;
    try {
      this.#messages ??= await this.#begin();
      const result = await this.#messages.next();
      if (result.done !== true) return result;
    } catch (error) {
      this.#isOver = true;
      throw error;
    }
    if (!this.#isOver) this.#end();
    return DONE;
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    if (this.#isOver) return DONE;
    this.#isOver = true;
    this.#leaving.abort(new ConnectError("the reader has left the stream", Code.Canceled));
    await this.#messages?.return?.();
    return DONE;
  }

  async #begin(): Promise<AsyncIterator<Output>> {
    const { header, trailer, message } = await this.#response;
    this.#trailer = trailer;
    this.#options?.onHeader?.(header);
    return message[Symbol.asyncIterator]();
  }

  #end(): void {
    this.#isOver = true;
    if (this.#trailer !== undefined) this.#options?.onTrailer?.(this.#trailer);
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ done: true, value: undefined });
