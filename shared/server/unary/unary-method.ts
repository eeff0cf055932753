import { create, type DescMessage, type DescMethodUnary, type Message } from "@bufbuild/protobuf";
import {
  createHandlerContext,
  type HandlerContext,
  type Interceptor,
  type StreamRequest,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { createMethodSerializationLookup, type MethodSerializationLookup } from "@connectrpc/connect/protocol";
import { callInfoKey } from "../call-info.ts";
import type { UnaryImplementation } from "../short-path/recorded-methods.ts";
import { OutgoingResponse } from "./unary-context.ts";
import { leavesUnread, unreadSerialization } from "./unread.ts";

/** A unary method with all that its calls have in common. */
export interface UnaryMethod {
  readonly method: DescMethodUnary;
  readonly requestPath: string;
  /** What its requests have as `url`. */
  readonly url: string;
  readonly serialization: MethodSerializationLookup<DescMessage, DescMessage>;
  /** Its implementation inside of the interceptors. */
  invoke(request: UnaryRequest): Promise<UnaryResponse>;
}

export interface UnaryMethodOptions {
  readonly implementation: UnaryImplementation;
  readonly requestPath: string;
  readonly interceptors: readonly Interceptor[];
  readonly limits: { readonly readMaxBytes: number; readonly writeMaxBytes: number };
  readonly jsonOptions: object;
}

export function createUnaryMethod(options: UnaryMethodOptions): UnaryMethod {
  const { implementation, requestPath, interceptors, limits, jsonOptions } = options;
  const method = implementation.method as DescMethodUnary;

  async function handle(request: UnaryRequest): Promise<UnaryResponse> {
    const context = contextOf(request, request.contextValues.get(callInfoKey)?.unary?.context);
    const output = await implementation.impl(request.message as Message, context);
    return new OutgoingResponse(method, create(method.output, output as Message), context);
  }
  // Interceptors are typed for calls of both kinds; these see unary ones only.
  const next = interceptors.reduceRight((inner, interceptor) => interceptor(inner), handle as ReturnType<Interceptor>);

  const serialization = createMethodSerializationLookup(method, undefined, jsonOptions, limits);
  return {
    method,
    requestPath,
    url: `http://server${requestPath}`,
    serialization: leavesUnread(implementation.impl)
      ? unreadSerialization(method, serialization, limits)
      : serialization,
    invoke: next as UnaryMethod["invoke"],
  };
}

/** The call's context, with what interceptors have put into the request's place. */
export function contextOf(request: UnaryRequest | StreamRequest, context: HandlerContext | undefined): HandlerContext {
  const { service, method, requestMethod, url, header, signal, contextValues } = request;
  if (context === undefined) {
    // An interceptor has made a request of its own: then its response brings what it has for headers and trailers.
    const init = { service, method, requestMethod, url, requestHeader: header, requestSignal: signal, contextValues };
    return createHandlerContext({ ...init, protocolName: "" });
  }
  const isSame = context.requestHeader === header && context.signal === signal && context.values === contextValues;
  if (isSame && context.service === service) return context;
  return { ...context, service, requestHeader: header, signal, values: contextValues };
}
