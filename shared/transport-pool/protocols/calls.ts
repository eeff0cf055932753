import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import {
  type ContextValues,
  createContextValues,
  type Interceptor,
  type StreamRequest,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";
import { createMethodUrl } from "@connectrpc/connect/protocol";
import { watchItems } from "#shared/rpc";
import type { LazyAbortSignal } from "../call/lazy-abort-signal.ts";
import type { Next, SendTo } from "../interceptors/attempt.ts";
import { createCallRequest } from "./call-request.ts";
import { type HeaderPairs, type RawHeaders, rawHeaders, readHeaders, requestHeadersOf } from "./request-headers.ts";
import { runStream } from "./run-stream.ts";
import { runUnary } from "./run-unary.ts";
import type { RequestHeaders } from "./wire-format.ts";

/** A method of the contract, prepared once. */
export interface PreparedMethod {
  readonly headers: RequestHeaders;
  /** Sends an attempt: on the fast path or on the fallback. */
  readonly send: SendTo;
}

export interface CallsOptions {
  /** What the URLs of calls begin with. */
  readonly origin: string;
  /** The first one outermost. Applied once for each method. */
  readonly interceptors: readonly Interceptor[];
  readonly prepare: (method: DescMethod, url: string) => PreparedMethod;
  /** The end of the chain: picks an endpoint and sends the request there. */
  readonly attempt: (send: SendTo) => Next;
}

interface KnownMethod {
  readonly url: string;
  readonly headers: RequestHeaders;
  readonly next: Next;
}

type HeadersInit = ConstructorParameters<typeof Headers>[0] | HeaderPairs;

/**
 * Runs calls through the interceptors, as Connect's transports do. What is the same for each call of a method is made once.
 */
export function createCalls({ origin, interceptors, prepare, attempt }: CallsOptions): Transport {
  // No more than the contract has methods.
  const known = new Map<DescMethod, KnownMethod>();

  function methodOf(method: DescMethod): KnownMethod {
    let one = known.get(method);
    if (one === undefined) {
      const url = createMethodUrl(origin, method);
      const { headers, send } = prepare(method, url);
      const next = interceptors.reduceRight((inner, interceptor) => interceptor(inner), attempt(send));
      one = { url, headers, next };
      known.set(method, one);
    }
    return one;
  }

  function unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    own: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit,
    input: MessageInitShape<I>,
    contextValues: ContextValues = createContextValues(),
  ): Promise<UnaryResponse<I, O>> {
    try {
      const { url, headers: fixed, next } = methodOf(method);
      const givenMs = timeoutOf(timeoutMs);
      const headers = requestHeadersOf(fixed, header, givenMs);
      const message = create(method.input, input);
      const send = (end: LazyAbortSignal) =>
        next(createCallRequest({ method, url, message, contextValues, headers, end })) as Promise<UnaryResponse>;
      return runUnary({ signal: own, timeoutMs: givenMs, send }) as Promise<UnaryResponse<I, O>>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async function stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodStreaming<I, O>,
    own: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: HeadersInit,
    input: AsyncIterable<MessageInitShape<I>>,
    contextValues: ContextValues = createContextValues(),
  ): Promise<StreamResponse<I, O>> {
    const { url, headers: fixed, next } = methodOf(method);
    const givenMs = timeoutOf(timeoutMs);
    const headers = requestHeadersOf(fixed, header, givenMs);
    const given = input as StreamRequest["message"];
    const message = watchItems(given, { onItem: (item) => create(method.input, item as MessageInitShape<I>) });
    const send = (signal: AbortSignal) =>
      next(createStreamRequest({ method, url, contextValues, message, signal, headers })) as Promise<StreamResponse>;
    return (await runStream({ signal: own, timeoutMs: givenMs, input: given, send })) as StreamResponse<I, O>;
  }

  return { unary, stream };
}

/** As Connect has it: 0 or less is no timeout. */
function timeoutOf(timeoutMs: number | undefined): number | undefined {
  return timeoutMs === undefined || timeoutMs > 0 ? timeoutMs : undefined;
}

interface StreamRequestParts extends Pick<StreamRequest, "method" | "url" | "contextValues" | "message" | "signal"> {
  readonly headers: RawHeaders;
}

function createStreamRequest({ headers, method, ...parts }: StreamRequestParts): StreamRequest {
  return {
    stream: true,
    service: method.parent,
    method,
    requestMethod: "POST",
    ...parts,
    [rawHeaders]: headers,
    get header() {
      return readHeaders(headers);
    },
  } as StreamRequest;
}
