import { create, type DescMessage, type DescMethod, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type HandlerContext,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
} from "@connectrpc/connect";
import { createMethodSerializationLookup, type Serialization } from "@connectrpc/connect/protocol";
import { watchItems } from "#shared/rpc";
import { callInfoKey } from "../call-info.ts";
import type { StreamImplementation } from "../short-path/recorded-methods.ts";
import { contextOf } from "../unary/unary-method.ts";

/** A streaming method with all that its calls have in common. */
export interface StreamMethod {
  readonly method: StreamRequest["method"];
  /** What its requests have as `url`. */
  readonly url: string;
  readonly input: Serialization<Message>;
  readonly output: Serialization<Message>;
  /** Its implementation inside of the interceptors. */
  invoke(request: StreamRequest): Promise<StreamResponse>;
}

export interface StreamMethodOptions {
  readonly implementation: StreamImplementation;
  readonly requestPath: string;
  readonly interceptors: readonly Interceptor[];
  readonly limits: { readonly readMaxBytes: number; readonly writeMaxBytes: number };
}

type Output = AsyncIterable<MessageInitShape<DescMessage>>;

export function createStreamMethod(options: StreamMethodOptions): StreamMethod {
  const { implementation, requestPath, interceptors, limits } = options;
  const method = implementation.method as DescMethod & StreamRequest["method"];
  const normalize = { onItem: (item: unknown) => create(method.output, item as Message) };

  async function handle(request: StreamRequest): Promise<StreamResponse> {
    const context = contextOf(request, request.contextValues.get(callInfoKey)?.stream?.context);
    const output = await outputOf(implementation, request, context);
    return {
      stream: true,
      service: method.parent,
      method,
      message: watchItems(output as AsyncIterable<Message>, normalize as { onItem(item: Message): Message }),
      header: context.responseHeader,
      trailer: context.responseTrailer,
    };
  }
  // Interceptors are typed for calls of both kinds; these see streams only.
  const next = interceptors.reduceRight((inner, interceptor) => interceptor(inner), handle as ReturnType<Interceptor>);
  const serialization = createMethodSerializationLookup(method, undefined, undefined, limits);

  return {
    method,
    url: `http://server${requestPath}`,
    input: serialization.getI(true) as Serialization<Message>,
    output: serialization.getO(true) as Serialization<Message>,
    invoke: next as StreamMethod["invoke"],
  };
}

async function outputOf(
  implementation: StreamImplementation,
  { message }: StreamRequest,
  context: HandlerContext,
): Promise<Output> {
  switch (implementation.kind) {
    case "server_streaming":
      return implementation.impl(await single(message), context);
    case "client_streaming":
      return once(await implementation.impl(message, context));
    case "bidi_streaming":
      return implementation.impl(message, context);
  }
}

/** In Connect's words. */
async function single(messages: AsyncIterable<Message>): Promise<Message> {
  const iterator = messages[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) {
    throw new ConnectError("protocol error: missing input message for server-streaming method", Code.Unimplemented);
  }
  const second = await iterator.next();
  if (second.done !== true) {
    throw new ConnectError(
      "protocol error: received extra input message for server-streaming method",
      Code.Unimplemented,
    );
  }
  return first.value;
}

async function* once<T>(item: T): AsyncGenerator<T> {
  yield item;
}
