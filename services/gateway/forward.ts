import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageShape,
} from "@bufbuild/protobuf";
import { ConnectError, type ConnectRouter, type HandlerContext, type Transport } from "@connectrpc/connect";
import { contextHeaders, currentCall } from "#shared/call-context";
import { peerUnavailable } from "#shared/errors";
import { appendAll, endToEnd, pickHeaders } from "./headers.ts";

export interface ForwardOptions {
  /** What the service is called in logs and errors. */
  readonly name: string;
  readonly transport: Transport;
  /** Which headers go on to the service, and which come back; lower case. */
  readonly headers: { readonly request: readonly string[]; readonly response: readonly string[] };
}

type Message = MessageShape<DescMessage>;
type StreamingMethod = Parameters<Transport["stream"]>[0];

/**
 * Serves every method of the service by calling the same method through the transport, whose pool hands on deadline,
 * cancellation and trace. Messages, trailers and errors with their details come back as they are.
 */
export function forward(router: ConnectRouter, service: DescService, options: ForwardOptions): void {
  for (const method of service.methods) {
    // A DescMethod does not narrow by its kind, hence the casts.
    switch (method.methodKind) {
      case "unary": {
        const unary = method as DescMethodUnary;
        router.rpc(unary, (message, context) => forwardUnary(unary, message, context, options));
        break;
      }
      case "server_streaming": {
        const streaming = method as DescMethodServerStreaming;
        router.rpc(streaming, (message, context) => forwardStream(streaming, only(message), context, options));
        break;
      }
      case "client_streaming": {
        const streaming = method as DescMethodClientStreaming;
        router.rpc(streaming, (messages, context) => last(forwardStream(streaming, messages, context, options)));
        break;
      }
      case "bidi_streaming": {
        const streaming = method as DescMethodBiDiStreaming;
        router.rpc(streaming, (messages, context) => forwardStream(streaming, messages, context, options));
      }
    }
  }
}

async function forwardUnary(
  method: DescMethodUnary,
  message: Message,
  context: HandlerContext,
  { name, transport, headers }: ForwardOptions,
): Promise<Message> {
  nameRequest(context);
  try {
    const request = pickHeaders(context.requestHeader, headers.request);
    const response = await transport.unary(method, context.signal, undefined, request, message);
    appendAll(context.responseHeader, pickHeaders(response.header, headers.response));
    appendAll(context.responseTrailer, endToEnd(response.trailer));
    return response.message;
  } catch (error) {
    throw handedBack(error, name);
  }
}

async function* forwardStream(
  method: StreamingMethod,
  messages: AsyncIterable<Message>,
  context: HandlerContext,
  { name, transport, headers }: ForwardOptions,
): AsyncGenerator<Message> {
  nameRequest(context);
  try {
    const request = pickHeaders(context.requestHeader, headers.request);
    const response = await transport.stream(method, context.signal, undefined, request, messages);
    appendAll(context.responseHeader, pickHeaders(response.header, headers.response));
    yield* response.message;
    appendAll(context.responseTrailer, endToEnd(response.trailer));
  } catch (error) {
    throw handedBack(error, name);
  }
}

/** Tells the caller which id to name when something went wrong. */
function nameRequest({ responseHeader }: HandlerContext): void {
  const call = currentCall();
  if (call !== undefined) responseHeader.set(contextHeaders.requestId, call.requestId);
}

/**
 * What the service answered, less what its protocol wrote. What it did not answer (it cannot be reached, the
 * connection broke) names addresses in here that are nobody's business outside.
 */
function handedBack(error: unknown, service: string): unknown {
  if (!(error instanceof ConnectError)) return error;
  if (!error.isWireError) return peerUnavailable(service, error);
  const answer = new ConnectError(error.rawMessage, error.code, endToEnd(error.metadata));
  answer.details.push(...error.details);
  return answer;
}

async function* only<T>(item: T): AsyncGenerator<T> {
  yield item;
}

async function last(messages: AsyncIterable<Message>): Promise<Message> {
  let message: Message | undefined;
  for await (message of messages);
  if (message === undefined) throw new Error("a stream ended without its one message");
  return message;
}
