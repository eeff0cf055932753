import type { TestContext } from "node:test";
import { type MessageShape, toJson } from "@bufbuild/protobuf";
import { ConnectError, createContextValues, type Interceptor, type Transport } from "@connectrpc/connect";
import { BookService, GetBookResponseSchema } from "#gen/book/v1/book_pb.ts";
import { createEndpoint, type Endpoint } from "../balancing/endpoint.ts";
import { createConnectBackoff } from "../connections/connect-backoff.ts";
import { createHttp1Subchannel } from "../connections/http1/http1-subchannel.ts";
import { createHttp2Subchannel } from "../connections/http2/http2-subchannel.ts";
import { openHttp2Connection } from "../connections/http2/open-http2-connection.ts";
import type { SendTo } from "../interceptors/attempt.ts";
import type { ProtocolConfig } from "../protocols/prepare.ts";
import { createTransport } from "../protocols/transport.ts";
import { until, within } from "../test-support.ts";
import { type Http1Step, type ScriptedHttp1Server, startScriptedHttp1Server } from "./scripted-http1-server.ts";
import { type ScriptedServer, type Step, startScriptedServer } from "./scripted-server.ts";

export type Protocol = "grpc" | "connect";

/** All that a caller can see of an answer. */
export interface Outcome {
  readonly message?: unknown;
  readonly header?: readonly (readonly [string, string])[];
  readonly trailer?: readonly (readonly [string, string])[];
  readonly code?: number;
  readonly error?: string;
  readonly metadata?: readonly (readonly [string, string])[];
  readonly details?: unknown;
  readonly isWireError?: boolean;
  /** Of the request's signal, after a failure. */
  readonly isAborted?: boolean;
}

export interface CallOptions {
  readonly answerAt?: "headers" | "end";
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** What to do when the script has been played for so long. */
  readonly afterMs?: { readonly ms: number; readonly act: () => void };
}

export const READ_MAX_BYTES = 1_000;

/** The same call on the fallback, which is Connect's own transport, and on the fast path. */
export interface Pair<Server, Script> {
  readonly server: Server;
  stock(script: Script, makeOptions?: () => CallOptions): Promise<Outcome>;
  own(script: Script, makeOptions?: () => CallOptions): Promise<Outcome>;
  /** As `own`; nobody looks at the call's signal before it is over. */
  unwatched(script: Script, makeOptions?: () => CallOptions): Promise<Outcome>;
}

export type Http2Pair = Pair<ScriptedServer, readonly Step[]>;
export type Http1Pair = Pair<ScriptedHttp1Server, readonly Http1Step[]>;

const backoff = createConnectBackoff({ initialMs: 10, multiplier: 1, jitter: 0, maxMs: 10 }, Math.random);
const common = { name: "book-service", backoff, idleTimeoutMs: 60_000, onChange: () => {} };

/** Each call has a connection of its own: some scripts end it. */
export function connectTo({ address }: ScriptedServer): Endpoint {
  const connection = {
    authority: address,
    tls: undefined,
    connectTimeoutMs: 5_000,
    keepalive: { timeMs: 0, timeoutMs: 5_000, withoutCalls: false },
    streamWindowBytes: 1 << 20,
    connectionWindowBytes: 1 << 22,
  };
  return endpointOf(
    address,
    createHttp2Subchannel({ ...common, address, connection, maxConnections: 1, open: openHttp2Connection }),
  );
}

function connectByHttp1({ address }: ScriptedHttp1Server): Endpoint {
  const options = {
    ...common,
    address,
    authority: address,
    tls: undefined,
    connectTimeoutMs: 5_000,
    maxConnections: 1,
  };
  return endpointOf(address, createHttp1Subchannel(options));
}

export function configOf(config: Pick<ProtocolConfig, "protocol" | "http" | "fastPath">): ProtocolConfig {
  return {
    ...config,
    readMaxBytes: READ_MAX_BYTES,
    codec: "binary",
    compression: "none",
    compressMinBytes: 1_024,
    useGet: false,
  };
}

function endpointOf(address: string, subchannel: Endpoint["subchannel"]): Endpoint {
  subchannel.connect();
  return createEndpoint({ address, weight: 1, priority: 0, health: "unwatched", subchannel });
}

export async function startPair(t: TestContext, protocol: Protocol): Promise<Http2Pair> {
  const server = await startScriptedServer(t);
  return createPair({ server, protocol, http: "2", connect: () => connectTo(server) });
}

export async function startHttp1Pair(t: TestContext): Promise<Http1Pair> {
  const server = await startScriptedHttp1Server(t);
  return createPair({ server, protocol: "connect", http: "1.1", connect: () => connectByHttp1(server) });
}

interface PairOptions<Server> {
  readonly server: Server;
  readonly protocol: Protocol;
  readonly http: "1.1" | "2";
  readonly connect: () => Endpoint;
}

interface Scripted<Script> {
  readonly address: string;
  script: Script;
  answerAt: "headers" | "end";
}

function createPair<Script, Server extends Scripted<Script>>(options: PairOptions<Server>): Pair<Server, Script> {
  const { server, protocol, http, connect } = options;
  const origin = `http://${server.address}`;
  const seen: { signal: (() => AbortSignal) | undefined } = { signal: undefined };
  let endpoint: Endpoint | undefined;

  const watch: Interceptor = (next) => (req) => {
    const { signal } = req;
    seen.signal = () => signal;
    return next(req);
  };
  const watchLate: Interceptor = (next) => (req) => {
    seen.signal = () => req.signal;
    return next(req);
  };
  const attempt = (send: SendTo) => (req: Parameters<ReturnType<Interceptor>>[0]) => send(endpoint as Endpoint, req);
  const transportOf = (fastPath: boolean, interceptor: Interceptor) =>
    createTransport({
      config: configOf({ protocol, http, fastPath }),
      origin,
      interceptors: [interceptor],
      attempt,
      jsonOptions: undefined,
    });
  const stock = transportOf(false, watch);
  const own = transportOf(true, watch);
  const unwatched = transportOf(true, watchLate);

  async function outcomeOf(
    unary: Transport["unary"],
    script: Script,
    { answerAt = "end", timeoutMs = 10_000, signal, afterMs }: CallOptions,
  ): Promise<Outcome> {
    endpoint = connect();
    const { subchannel } = endpoint;
    await until(() => subchannel.state() === "ready");
    server.script = script;
    server.answerAt = answerAt;
    const timer = afterMs === undefined ? undefined : setTimeout(afterMs.act, afterMs.ms);
    const { getBook } = BookService.method;
    const call = unary(getBook, signal, timeoutMs, undefined, { id: "b1" }, createContextValues());
    try {
      const { message, header, trailer } = await within(8_000, call);
      const book = message as MessageShape<typeof GetBookResponseSchema>;
      return { message: toJson(GetBookResponseSchema, book), header: [...header], trailer: [...trailer] };
    } catch (reason) {
      const isConnectError = reason instanceof ConnectError;
      const error = ConnectError.from(reason);
      return {
        code: error.code,
        error: isConnectError ? error.rawMessage : `no ConnectError: ${error.rawMessage}`,
        metadata: [...error.metadata],
        details: error.details,
        isWireError: (error as unknown as { isWireError: boolean }).isWireError,
        isAborted: seen.signal?.().aborted === true,
      };
    } finally {
      clearTimeout(timer);
      await within(5_000, subchannel.close(200));
    }
  }

  return {
    server,
    stock: (script, makeOptions = () => ({})) => outcomeOf(stock.unary, script, makeOptions()),
    own: (script, makeOptions = () => ({})) => outcomeOf(own.unary, script, makeOptions()),
    unwatched: (script, makeOptions = () => ({})) => outcomeOf(unwatched.unary, script, makeOptions()),
  };
}

/** How a connection broke is told in Node's words by one, and in ours by the other. */
export function withoutWords(outcome: Outcome): Outcome {
  return outcome.error?.startsWith("connection lost: ") ? { ...outcome, error: "connection lost" } : outcome;
}
