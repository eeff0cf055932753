import { create, type DescMessage, type DescMethodStreaming, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type ContextValues,
  createContextValues,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type Transport,
  type UnaryRequest,
} from "@connectrpc/connect";
import { createMethodUrl } from "@connectrpc/connect/protocol";
import { watchItems } from "#shared/rpc";
import { takeEndpoint } from "../calls/hand-on.ts";
import type { ServiceConfig } from "../config/service.ts";
import { serializationOf } from "../unary/answer.ts";
import { grpcRequestHeaders } from "../unary/grpc.ts";
import { rawHeaders, readHeaders } from "../unary/request-headers.ts";
import { headersOf, pathOf } from "../unary/transport.ts";
import { exchange } from "./exchange.ts";
import { runStream } from "./run-stream.ts";

export interface StreamTransportOptions {
  readonly readMaxBytes: ServiceConfig["readMaxBytes"];
  /** What the URLs of calls begin with. */
  readonly origin: string;
  /** The first one outermost. The last one hands the endpoint on. They are applied once for each method. */
  readonly interceptors: readonly Interceptor[];
  /** Sends what is not server-streaming. */
  readonly otherwise: Transport["stream"];
}

type Next = ReturnType<Interceptor>;

interface KnownMethod {
  readonly url: string;
  readonly next: Next;
}

/**
 * Server-streaming calls of gRPC over HTTP/2 without what stock Connect spends on each of their messages: they are cut
 * out of what comes, and handed to the reader from one queue. Whoever looks at it from outside sees no difference.
 */
export function createStream(options: StreamTransportOptions): Transport["stream"] {
  const { readMaxBytes, origin, interceptors, otherwise } = options;
  const fixed = grpcRequestHeaders();
  // No more than the contract has methods.
  const known = new Map<DescMethodStreaming, KnownMethod>();

  function methodOf(method: DescMethodStreaming): KnownMethod {
    let one = known.get(method);
    if (one === undefined) {
      one = learn(method);
      known.set(method, one);
    }
    return one;
  }

  function learn(method: DescMethodStreaming): KnownMethod {
    const url = createMethodUrl(origin, method);
    const spoken = { ...serializationOf(method, readMaxBytes), readMaxBytes };
    const { pathname } = new URL(url);
    const last: Next = (request: UnaryRequest | StreamRequest) => {
      const { subchannel, address } = takeEndpoint();
      if (!request.stream || !("request" in subchannel)) throw new TypeError(`${address} is not called by HTTP/2`);
      const path = request.url === url ? pathname : pathOf(request.url, origin);
      return exchange(request, path, spoken, subchannel);
    };
    const next = interceptors.reduceRight((inner, interceptor) => interceptor(inner), last);
    return { url, next };
  }

  return async function stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    own: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: ConstructorParameters<typeof Headers>[0],
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues?: ContextValues,
  ) {
    if (method.methodKind !== "server_streaming") {
      return await otherwise(method, own, timeoutMs, header, input, contextValues);
    }
    const { url, next } = methodOf(method);
    const givenMs = timeoutMs === undefined || timeoutMs > 0 ? timeoutMs : undefined;
    const lazy = headersOf(fixed, header, givenMs);
    const given = input as StreamRequest["message"];
    const normalized = watchItems(given, { onItem: (message) => create(method.input, message as MessageInitShape<I>) });
    const send = (signal: AbortSignal) => {
      const request = {
        stream: true as const,
        service: method.parent,
        method,
        requestMethod: "POST",
        url,
        contextValues: contextValues ?? createContextValues(),
        message: normalized,
        signal,
        [rawHeaders]: lazy,
        get header() {
          return readHeaders(lazy);
        },
      };
      return next(request) as Promise<StreamResponse>;
    };
    return (await runStream({ signal: own, timeoutMs: givenMs, input: given, send })) as StreamResponse<I, O>;
  };
}
