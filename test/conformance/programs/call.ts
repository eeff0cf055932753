import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { type CallOptions, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { fromError } from "./errors.ts";
import { fromHeaders, toHeaders } from "./headers.ts";
import {
  BidiStreamRequestSchema,
  type ClientCompatRequest,
  type ClientResponseResult,
  ClientResponseResultSchema,
  ClientStreamRequestSchema,
  type ConformancePayload,
  ConformancePayloadSchema,
  ConformanceService,
  IdempotentUnaryRequestSchema,
  ServerStreamRequestSchema,
  StreamType,
  UnaryRequestSchema,
  UnimplementedRequestSchema,
} from "./protos.ts";

/** A request of the runner that the client cannot carry out; the runner counts the case as failed. */
export class UnsupportedRequest extends Error {}

/**
 * Makes the call that the runner asks for and describes its result, success or failure.
 *
 * @throws UnsupportedRequest
 */
export async function makeCall(transport: Transport, request: ClientCompatRequest): Promise<ClientResponseResult> {
  const { service = ConformanceService.typeName, method = "" } = request;
  if (service !== ConformanceService.typeName) throw new UnsupportedRequest(`unknown service ${service}`);
  const client = createClient(ConformanceService, transport);
  const call = new Call(request);
  switch (method) {
    case "Unary": {
      const message = call.message(UnaryRequestSchema);
      return await call.run((options) => call.unary(() => client.unary(message, options)));
    }
    case "IdempotentUnary": {
      const message = call.message(IdempotentUnaryRequestSchema);
      return await call.run((options) => call.unary(() => client.idempotentUnary(message, options)));
    }
    case "Unimplemented": {
      const message = call.message(UnimplementedRequestSchema);
      return await call.run((options) => call.unary(() => client.unimplemented(message, options)));
    }
    case "ServerStream": {
      const message = call.message(ServerStreamRequestSchema);
      return await call.run((options) => call.serverStream(() => client.serverStream(message, options)));
    }
    case "ClientStream": {
      const messages = call.messages(ClientStreamRequestSchema);
      return await call.run(async (options) => call.receive(await client.clientStream(call.send(messages), options)));
    }
    case "BidiStream": {
      const messages = call.messages(BidiStreamRequestSchema);
      return await call.run((options) => call.receiveAll(client.bidiStream(call.send(messages), options)));
    }
    default:
      throw new UnsupportedRequest(`unknown method ${method}`);
  }
}

interface Response {
  readonly payload?: ConformancePayload | undefined;
}

class Call {
  readonly #request: ClientCompatRequest;
  readonly #result = create(ClientResponseResultSchema);
  readonly #cancel = new AbortController();
  /** Resolved by the next response or by the end of the call. */
  #progress = Promise.withResolvers<void>();
  #isOver = false;

  constructor(request: ClientCompatRequest) {
    this.#request = request;
  }

  /** @throws UnsupportedRequest */
  messages<Desc extends DescMessage>(schema: Desc): MessageShape<Desc>[] {
    return this.#request.requestMessages.map((any) => {
      const message = anyUnpack(any, schema);
      if (message === undefined) throw new UnsupportedRequest(`${any.typeUrl} in place of ${schema.typeName}`);
      return message;
    });
  }

  /** @throws UnsupportedRequest */
  message<Desc extends DescMessage>(schema: Desc): MessageShape<Desc> {
    const [message, ...more] = this.messages(schema);
    if (message === undefined || more.length > 0) throw new UnsupportedRequest("one request message is needed");
    return message;
  }

  async run(invoke: (options: CallOptions) => Promise<void>): Promise<ClientResponseResult> {
    const { requestHeaders, timeoutMs = 0 } = this.#request;
    let hasTrailers = false;
    const options: CallOptions = {
      headers: toHeaders(requestHeaders),
      signal: this.#cancel.signal,
      // 0: no timeout, not even the transport's own.
      timeoutMs,
      onHeader: (headers) => {
        this.#result.responseHeaders = fromHeaders(headers);
      },
      onTrailer: (trailers) => {
        hasTrailers = true;
        this.#result.responseTrailers = fromHeaders(trailers);
      },
    };
    try {
      await invoke(options);
    } catch (reason) {
      this.#result.error = fromError(reason);
      if (reason instanceof ConnectError && !hasTrailers) {
        this.#result.responseTrailers = fromHeaders(reason.metadata);
      }
    } finally {
      this.#isOver = true;
      this.#progress.resolve();
    }
    return this.#result;
  }

  async unary(invoke: () => Promise<object>): Promise<void> {
    await this.#pause();
    const response = invoke();
    this.#cancelAfterClose();
    this.receive(await response);
  }

  async serverStream(invoke: () => AsyncIterable<Response>): Promise<void> {
    const responses = invoke();
    this.#cancelAfterClose();
    await this.receiveAll(responses);
  }

  /** Request messages of a stream, as the runner paces them. */
  async *send<Message>(messages: readonly Message[]): AsyncGenerator<Message, void> {
    const { streamType, cancel } = this.#request;
    this.#result.numUnsentRequests = messages.length;
    for (const message of messages) {
      await this.#pause();
      if (this.#isOver) return;
      this.#result.numUnsentRequests--;
      yield message;
      // The response can be there before the transport asks for the next message.
      const received = messages.length - this.#result.numUnsentRequests;
      while (streamType === StreamType.FULL_DUPLEX_BIDI_STREAM && !this.#hasReceived(received)) {
        await this.#progress.promise;
      }
    }
    if (cancel?.cancelTiming.case === "beforeCloseSend") this.#cancel.abort();
    else this.#cancelAfterClose();
  }

  async receiveAll(responses: AsyncIterable<Response>): Promise<void> {
    for await (const response of responses) this.receive(response);
  }

  /** A response without a payload counts as one with an empty payload. */
  receive({ payload = create(ConformancePayloadSchema) }: Response): void {
    const { payloads } = this.#result;
    payloads.push(payload);
    const timing = this.#request.cancel?.cancelTiming;
    if (timing?.case === "afterNumResponses" && timing.value === payloads.length) this.#cancel.abort();
    this.#progress.resolve();
    this.#progress = Promise.withResolvers();
  }

  #hasReceived(count: number): boolean {
    return this.#isOver || this.#result.payloads.length >= count;
  }

  #cancelAfterClose(): void {
    const timing = this.#request.cancel?.cancelTiming;
    if (timing?.case === "afterCloseSendMs") setTimeout(() => this.#cancel.abort(), timing.value);
    else if (timing !== undefined && timing.case === undefined) this.#cancel.abort();
  }

  async #pause(): Promise<void> {
    const { requestDelayMs } = this.#request;
    if (requestDelayMs > 0) await delay(requestDelayMs);
  }
}
