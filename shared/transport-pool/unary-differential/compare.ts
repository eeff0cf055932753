import type { TestContext } from "node:test";
import { type MessageShape, toJson } from "@bufbuild/protobuf";
import { ConnectError, createContextValues, type Interceptor, type Transport } from "@connectrpc/connect";
import { BookService, GetBookResponseSchema } from "#gen/book/v1/book_pb.ts";
import { createEndpoint, type Endpoint } from "../balancing/endpoint.ts";
import { runInAttempt } from "../calls/attempt.ts";
import { handOn } from "../calls/hand-on.ts";
import { createStockTransport } from "../calls/stock-transport.ts";
import { createConnectBackoff } from "../connections/connect-backoff.ts";
import { createSubchannel } from "../connections/create-subchannel.ts";
import { createHttp1Subchannel } from "../connections/http1-subchannel.ts";
import { openHttp2Connection } from "../connections/open-http2-connection.ts";
import { until, within } from "../test-support.ts";
import { createUnary } from "../unary/transport.ts";
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

/** The same call by stock Connect and by this module's own way, each over connections of this module. */
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
  };
  return endpointOf(
    address,
    createSubchannel({ ...common, address, connection, maxConnections: 1, open: openHttp2Connection }),
  );
}

function connectByHttp1({ address }: ScriptedHttp1Server): Endpoint {
  const options = { ...common, address, authority: address, tls: undefined, connectTimeoutMs: 5_000 };
  return endpointOf(address, createHttp1Subchannel(options));
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
  const inAls: Interceptor = (next) => (req) =>
    runInAttempt({ endpoint: endpoint as Endpoint, signal: req.signal }, () => next(req));
  const byHand: Interceptor = (next) => (req) => handOn(endpoint as Endpoint, next, req);
  const config = { protocol, readMaxBytes: READ_MAX_BYTES } as const;
  const stock = createStockTransport({ ...config, http }, origin, [watch, inAls]);
  const own = createUnary({ ...config, http, origin, interceptors: [watch, byHand] });
  const unwatched = createUnary({ ...config, http, origin, interceptors: [watchLate, byHand] });

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
    own: (script, makeOptions = () => ({})) => outcomeOf(own, script, makeOptions()),
    unwatched: (script, makeOptions = () => ({})) => outcomeOf(unwatched, script, makeOptions()),
  };
}

/** How a connection broke is told in Node's words by one, and in ours by the other. */
export function withoutWords(outcome: Outcome): Outcome {
  return outcome.error?.startsWith("connection lost: ") ? { ...outcome, error: "connection lost" } : outcome;
}
