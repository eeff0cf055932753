import { create, type DescMessage, type DescMethodUnary, type MessageInitShape } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextValues,
  type Interceptor,
  type StreamRequest,
  type Transport,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { createMethodUrl } from "@connectrpc/connect/protocol";
import { takeEndpoint } from "../calls/hand-on.ts";
import type { ServiceConfig } from "../config/service.ts";
import type { CallEnd } from "../policies/call-end.ts";
import type { UnaryMethod } from "./answer.ts";
import { createCallRequest } from "./call-request.ts";
import { createConnectMethod } from "./connect.ts";
import { exchange } from "./exchange.ts";
import { createGrpcMethod } from "./grpc.ts";
import { RawHeaders } from "./request-headers.ts";
import { runUnary } from "./run-unary.ts";

export interface UnaryTransportOptions {
  readonly protocol: "grpc" | "connect";
  readonly http: ServiceConfig["http"];
  readonly readMaxBytes: ServiceConfig["readMaxBytes"];
  /** What the URLs of calls begin with. */
  readonly origin: string;
  /** The first one outermost. The last one hands the endpoint on. They are applied once for each method. */
  readonly interceptors: readonly Interceptor[];
}

/** What the pool's own headers come as when the caller has none: each name once, in lower case. */
type HeaderPairs = [name: string, value: string][];
type Next = ReturnType<Interceptor>;

interface KnownMethod {
  readonly url: string;
  readonly protocol: UnaryMethod;
  readonly next: Next;
}

const createMethod = { grpc: createGrpcMethod, connect: createConnectMethod } as const;

/**
 * Unary calls without what stock Connect spends on them: whatever is the same for each call of a method is
 * made once, and the good answer is read without a single async iterable. Whoever looks at it from outside sees no
 * difference: requests, answers, errors and interceptors are Connect's.
 */
export function createUnary({
  protocol,
  http,
  readMaxBytes,
  origin,
  interceptors,
}: UnaryTransportOptions): Transport["unary"] {
  // No more than the contract has methods.
  const known = new Map<DescMethodUnary, KnownMethod>();

  function methodOf(method: DescMethodUnary): KnownMethod {
    let one = known.get(method);
    if (one === undefined) {
      one = learn(method);
      known.set(method, one);
    }
    return one;
  }

  function learn(method: DescMethodUnary): KnownMethod {
    const url = createMethodUrl(origin, method);
    const spoken = createMethod[protocol](method, readMaxBytes);
    const { pathname } = new URL(url);
    const last: Next = (request: UnaryRequest | StreamRequest) => {
      const { subchannel } = takeEndpoint();
      if (request.stream) throw new TypeError(`${method.name} is not a stream`);
      const path = request.url === url ? pathname : pathOf(request.url, http === "2" ? origin : undefined);
      return exchange(request, path, spoken, subchannel);
    };
    const next = interceptors.reduceRight((inner, interceptor) => interceptor(inner), last);
    return { url, protocol: spoken, next };
  }

  return function unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    own: AbortSignal | undefined,
    timeoutMs: number | undefined,
    header: ConstructorParameters<typeof Headers>[0],
    input: MessageInitShape<I>,
    contextValues: ContextValues = createContextValues(),
  ) {
    try {
      const { url, protocol: spoken, next } = methodOf(method);
      const givenMs = timeoutMs === undefined || timeoutMs > 0 ? timeoutMs : undefined;
      const headers = headersOf(spoken, header, givenMs);
      const message = create(method.input, input);
      const send = (end: CallEnd) =>
        next(createCallRequest({ method, url, message, contextValues, headers, end })) as Promise<UnaryResponse>;
      return runUnary({ signal: own, timeoutMs: givenMs, send }) as Promise<UnaryResponse<I, O>>;
    } catch (error) {
      return Promise.reject(error);
    }
  };
}

export function headersOf(
  { header: fixed, timeout }: Pick<UnaryMethod, "header" | "timeout">,
  own: ConstructorParameters<typeof Headers>[0] | HeaderPairs,
  timeoutMs: number | undefined,
): RawHeaders {
  const raw = fixed.slice();
  if (timeoutMs !== undefined) raw.push(timeout.name, `${timeoutMs}${timeout.suffix}`);
  if (Array.isArray(own)) {
    for (const [name, value] of own) raw.push(name, value);
    return new RawHeaders(raw);
  }
  const made = new Headers(own);
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] ?? "";
    if (name !== "user-agent" || !made.has(name)) made.set(name, raw[index + 1] ?? "");
  }
  return new RawHeaders(raw, made);
}

/**
 * Of a URL that an interceptor has put in place of the method's own. Stock Connect lets it name another origin over
 * HTTP/1.1, where an agent chooses the peer.
 */
export function pathOf(url: string, origin: string | undefined): string {
  const { pathname, search, origin: other } = new URL(url);
  if (origin !== undefined && other !== origin) {
    const message = `cannot make a request to ${other}: the http2 session is connected to ${origin}`;
    throw new ConnectError(message, Code.Internal);
  }
  return pathname + search;
}
