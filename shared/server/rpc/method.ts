import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  type Message,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type HandlerContext,
  type Interceptor,
  type MethodImplSpec,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { watchItems } from "#shared/rpc";
import { binaryCodec, type Codec, type CodecOptions, jsonCodec } from "./codec.ts";
import { contextOf, OutgoingResponse } from "./context.ts";
import { leavesUnread, unreadCodecs } from "./unread.ts";

/** The codecs of a method, by `WireFormat.isBinary`. */
export interface Codecs {
  readonly input: { readonly true: Codec; readonly false: Codec };
  readonly output: { readonly true: Codec; readonly false: Codec };
}

/** A method with all that its calls have in common. */
export interface PreparedMethod {
  readonly descriptor: DescMethod;
  /** Fully qualified, such as `user.v1.UserService/GetUser`. */
  readonly name: string;
  readonly requestPath: string;
  /** What its requests have as `url`. Its host has no meaning. */
  readonly url: string;
  readonly codecs: Codecs;
  /** Runs its implementation inside of the interceptors. Of unary methods. */
  invokeUnary(request: UnaryRequest): Promise<UnaryResponse>;
  /** Of methods that stream. */
  invokeStream(request: StreamRequest): Promise<StreamResponse>;
}

export interface PrepareOptions extends CodecOptions {
  readonly implementation: MethodImplSpec;
  readonly interceptors: readonly Interceptor[];
}

/** Prepares a method once for all of its calls. */
export function prepareMethod({ implementation, interceptors, ...options }: PrepareOptions): PreparedMethod {
  const descriptor: DescMethod = implementation.method;
  const name = `${descriptor.parent.typeName}/${descriptor.name}`;
  const handle = implementation.kind === "unary" ? unaryHandler(implementation) : streamHandler(implementation);
  // Interceptors are typed for calls of both kinds; these see one.
  const invoke = interceptors.reduceRight(
    (inner, interceptor) => interceptor(inner),
    handle as ReturnType<Interceptor>,
  );
  const { input, output } = descriptor;
  const codecs: Codecs = {
    input: { true: binaryCodec(input, options), false: jsonCodec(input, options) },
    output: { true: binaryCodec(output, options), false: jsonCodec(output, options) },
  };
  return {
    descriptor,
    name,
    requestPath: `/${name}`,
    url: `http://server/${name}`,
    codecs: leavesUnread(implementation.impl) ? unreadCodecs(input, codecs, options) : codecs,
    invokeUnary: invoke as PreparedMethod["invokeUnary"],
    invokeStream: invoke as PreparedMethod["invokeStream"],
  };
}

type Implementation<Kind> = Extract<MethodImplSpec, { readonly kind: Kind }>;
type StreamImplementation = Exclude<MethodImplSpec, { readonly kind: "unary" }>;
type Output = AsyncIterable<MessageInitShape<DescMessage>>;

function unaryHandler({ method, impl }: Implementation<"unary">): PreparedMethod["invokeUnary"] {
  const descriptor = method as DescMethodUnary;
  return async (request) => {
    const context = contextOf(request);
    const output = await impl(request.message as Message, context);
    return new OutgoingResponse(descriptor, create(descriptor.output, output as Message), context);
  };
}

function streamHandler(implementation: StreamImplementation): PreparedMethod["invokeStream"] {
  const method = implementation.method as DescMethod & StreamRequest["method"];
  const normalize = { onItem: (item: unknown) => create(method.output, item as Message) };
  return async (request) => {
    const context = contextOf(request);
    const output = await outputOf(implementation, request, context);
    return {
      stream: true,
      service: method.parent,
      method,
      message: watchItems(output as AsyncIterable<Message>, normalize as { onItem(item: Message): Message }),
      header: context.responseHeader,
      trailer: context.responseTrailer,
    };
  };
}

async function outputOf(
  implementation: StreamImplementation,
  { message }: StreamRequest,
  context: HandlerContext,
): Promise<Output> {
  switch (implementation.kind) {
    case "server_streaming":
      return implementation.impl(await onlyMessage(message, "server-streaming"), context);
    case "client_streaming":
      return once(await implementation.impl(message, context));
    case "bidi_streaming":
      return implementation.impl(message, context);
  }
}

/** @throws ConnectError UNIMPLEMENTED when there is none, or more than one, in Connect's words */
async function onlyMessage(messages: AsyncIterable<Message>, kind: string): Promise<Message> {
  const iterator = messages[Symbol.asyncIterator]();
  const first = await iterator.next();
  if (first.done === true) throw missingMessage(kind);
  const second = await iterator.next();
  if (second.done !== true) throw extraMessage(kind);
  return first.value;
}

export function missingMessage(kind: string): ConnectError {
  return new ConnectError(`protocol error: missing input message for ${kind} method`, Code.Unimplemented);
}

export function extraMessage(kind: string): ConnectError {
  return new ConnectError(`protocol error: received extra input message for ${kind} method`, Code.Unimplemented);
}

async function* once<T>(item: T): AsyncGenerator<T> {
  yield item;
}
