import {
  createRegistry,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodClientStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type MessageShape,
} from "@bufbuild/protobuf";
import { ConnectError, type ConnectRouter, type HandlerContext, type Transport } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "#gen/google/rpc/error_details_pb.ts";
import { contextHeaders, currentCall } from "#shared/call-context";
import { peerFailure } from "#shared/errors";
import { unread } from "#shared/server";
import { appendAll, appendEndToEnd, pickHeaders } from "./headers.ts";

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
        router.rpc(
          unary,
          unread((message, context) => forwardUnary(unary, message, context, options)),
        );
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
    // Where none is to come back, they need not be made.
    if (headers.response.length > 0) {
      appendAll(context.responseHeader, pickHeaders(response.header, headers.response));
    }
    appendEndToEnd(context.responseTrailer, response.trailer);
    return response.message;
  } catch (error) {
    throw handedBack(error, name, headers.response);
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
    appendEndToEnd(context.responseTrailer, response.trailer);
  } catch (error) {
    throw handedBack(error, name, headers.response);
  }
}

/** Tells the caller which id to name when something went wrong. */
function nameRequest({ responseHeader }: HandlerContext): void {
  const call = currentCall();
  if (call !== undefined) responseHeader.set(contextHeaders.requestId, call.requestId);
}

/** When a service that is overloaded wants the call again (gRFC A6); the caller is the one who can wait. */
export const PUSHBACK = "grpc-retry-pushback-ms";

/**
 * What the service answered, with the metadata that is on the list: an error does not tell its headers from its
 * trailers. What the service did not answer (it cannot be reached, its answer cannot be read) names addresses in here
 * that are nobody's business outside.
 */
function handedBack(error: unknown, service: string, allowed: readonly string[]): unknown {
  if (!(error instanceof ConnectError)) return error;
  if (!error.isWireError) return peerFailure(service, error);
  const metadata = pickHeaders(error.metadata, [...allowed, PUSHBACK]);
  const answer = new ConnectError(error.rawMessage, error.code, metadata);
  answer.details.push(...error.details.map(legible));
  return answer;
}

const details = createRegistry(file_google_rpc_error_details);

/** With its schema where that is known: Connect then writes it in words too, beside its bytes. */
function legible(detail: ConnectError["details"][number]): ConnectError["details"][number] {
  if ("desc" in detail) return detail;
  const desc = details.getMessage(detail.type);
  return desc === undefined ? detail : { desc, value: fromBinary(desc, detail.value) };
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
