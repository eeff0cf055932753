import { setTimeout as delay } from "node:timers/promises";
import type { Interceptor } from "@connectrpc/connect";
import cors, { type FastifyCorsOptions } from "@fastify/cors";
import Fastify, { type FastifyInstance } from "fastify";
import { DomainError, toConnectError } from "#shared/errors";
import type { Readiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import { type CallObserver, CallRecords } from "./call-record.ts";
import type { ServerConfig } from "./config.ts";
import { createFallback, exchangeOf, type NodeExchange, type RequestHandler } from "./connect/fallback.ts";
import { isGuarded } from "./connect/guard.ts";
import { registerConnect } from "./connect/plugin.ts";
import { limitBody } from "./http/body-timeout.ts";
import { createAccessLog } from "./interceptors/access-log.ts";
import { createErrorMapping } from "./interceptors/error-mapping.ts";
import { serverInterceptors } from "./interceptors/index.ts";
import { createListener, type Listener } from "./listener/listener.ts";
import { respondBadPath, respondNotFound } from "./plain/not-found.ts";
import { respondPlainError } from "./plain/plain-errors.ts";
import { logReadiness } from "./plain/readiness-log.ts";
import { createRequestLog } from "./plain/request-log.ts";
import { addProbes, type Routes, recordRoutes } from "./routes.ts";
import { FLUSH_GRACE_MS } from "./rpc/call.ts";
import type { JsonOptions } from "./rpc/codec.ts";
import { createFastPath } from "./rpc/fast-path.ts";
import { createAdmission } from "./shedding/admission.ts";
import { createStages, type RequestGate } from "./stages.ts";

/** Those of `@fastify/cors`; origins are named, since calls that have none do not always come by. */
export interface CorsOptions extends Omit<FastifyCorsOptions, "origin"> {
  /** `*` for any, or those that may. */
  readonly origin: string | string[];
}

export interface ServerOptions {
  readonly config: ServerConfig;
  readonly logger: Logger;
  /** What the app says of itself to health checks. The server makes it "not ready" for good when it stops. */
  readonly readiness: Readiness;
  readonly routes: Routes;
  /** The service's own interceptors, inside of the server's. Default none. */
  readonly interceptors?: readonly Interceptor[];
  /**
   * Is asked about each call when its head has arrived, before anything of its body is read: the place to refuse a caller at
   * little cost. It may set context values and response headers. `currentCall()` has the call. As Connect's own.
   *
   * @throws ConnectError or DomainError to refuse the call
   */
  readonly requestGate?: RequestGate;
  /** For messages in JSON, such as a registry for `google.protobuf.Any`. */
  readonly jsonOptions?: JsonOptions;
  /** Receive the record of each call at its start and end, beside the access log. Default none. */
  readonly observers?: readonly CallObserver[];
  /** Whether requests are held against the protovalidate rules of their protos. Default true. */
  readonly validate?: boolean;
  /** How late the event loop runs, in milliseconds, for `max_event_loop_delay`. Default: as measured. */
  readonly eventLoopDelayMs?: () => number;
  /**
   * Which pages may call. A call without an `Origin` comes from no page: over HTTP/2 it may be answered without the headers
   * that say so, `Vary` too. Default: none may.
   */
  readonly cors?: CorsOptions;
  /** Adds what is not Connect's: plugins, plain HTTP routes. All calls then pass its hooks, for some more time. */
  readonly fastify?: (fastify: FastifyInstance) => void | Promise<void>;
}

export interface Server {
  /** Where it listens, such as `http://127.0.0.1:9001`. @throws Error before `start` */
  readonly url: string;
  /** @throws the bind error, such as EADDRINUSE */
  start(): Promise<void>;
  /**
   * Not ready → `drain_delay` → GOAWAY, no new connections → calls in flight finish, or are ended with UNAVAILABLE
   * after `shutdown_timeout` → closed. Resolves when that is done; calling again awaits the same.
   *
   * @param signal ends the waiting, of an earlier call too: what is open is then closed at once
   */
  stop(signal?: AbortSignal): Promise<void>;
  /** How long `stop` takes at the longest. */
  readonly stopTimeoutMs: number;
}

/** For Connect's JSON, which would replace invalid UTF-8, where protobuf refuses it. */
const strictText: object = { textDecoder: new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }) };

/** A Fastify server that speaks gRPC, gRPC-Web, Connect and plain HTTP on one port. */
export function createServer(options: ServerOptions): Server {
  const { config, logger, readiness, routes, interceptors = [], validate = true } = options;
  const closing = new AbortController();
  const shutdown = new AbortController();
  /** Ends the waiting of a stop. */
  const hurry = new AbortController();
  let url: string | undefined;
  let stopping: Promise<void> | undefined;
  let drained: Promise<void> | undefined;
  let endReadinessLog = () => {};

  const admission = createAdmission({ config, logger, eventLoopDelayMs: options.eventLoopDelayMs });
  const mapError = createErrorMapping(logger, config.name);
  const recorded = recordRoutes({ readiness, routes, closing: closing.signal });
  const common = {
    config,
    logger,
    jsonOptions: { ...strictText, ...options.jsonOptions },
    interceptors: serverInterceptors({ mapError, sheds: admission !== undefined, validate, own: interceptors }),
    stages: createStages({ admission, requestGate: options.requestGate, mapError }),
    records: new CallRecords([createAccessLog(logger), ...(options.observers ?? [])], logger),
    shutdown: shutdown.signal,
  };
  const fastPath = config.fastPath ? createFastPath({ ...common, methods: recorded.methods }) : undefined;
  const hasHooks = options.fastify !== undefined;
  const hasCors = options.cors !== undefined;

  /** The head of each request comes here. */
  function serve(exchange: NodeExchange): void {
    // Calls from pages, which have an `Origin`, are for the hooks of CORS.
    const isFree = !hasHooks && !(hasCors && exchange.headers.origin !== undefined);
    if (!isFree || fastPath?.take(exchange) !== true) fallback(exchange);
  }

  const { fastify, listener, handle } = createFastify({ config, logger, serve });
  const log = createRequestLog(logger);
  const fallback = createFallback((request, response) => {
    log(request, response);
    limitBody(request, response, config.maxTimeoutMs, () => isGuarded(exchangeOf(request)));
    handle(request, response);
  });
  fastify.setNotFoundHandler(respondNotFound);
  fastify.setErrorHandler(respondPlainError(logger));
  // For an app that closes Fastify itself.
  fastify.addHook("preClose", drainListener);
  if (options.cors !== undefined) fastify.register(cors, options.cors);
  const configured = Promise.try(() => options.fastify?.(fastify));
  // `start` says so, which may be later than Node is willing to wait for somebody to listen.
  configured.catch(() => {});
  registerConnect(fastify, { ...common, recorded, fastPath: hasHooks || hasCors ? fastPath : undefined });
  addProbes(fastify, readiness);

  async function start(): Promise<void> {
    refuseIfStopped();
    await configured;
    await fastify.ready();
    refuseIfStopped();
    const { address, family, port } = await listener.listen();
    try {
      refuseIfStopped();
    } catch (error) {
      // The stop came before there was anything to close.
      listener.destroy();
      throw error;
    }
    const scheme = config.tls === undefined ? "http" : "https";
    url = `${scheme}://${family === "IPv6" ? `[${address}]` : address}:${port}`;
    logger.info({ url, ...(config.fastPath ? {} : { fast_path: false }) }, "listening");
    endReadinessLog = logReadiness(logger, readiness);
    admission?.start();
  }

  function refuseIfStopped(): void {
    if (stopping !== undefined) throw new Error(`${config.name} has been stopped`);
  }

  async function drain(): Promise<void> {
    readiness.drain("shutting down");
    endReadinessLog();
    listener.announce();
    if (url !== undefined) await patiently(delay(config.drainDelayMs, undefined, { signal: hurry.signal }));
    await drainListener();
    admission?.stop();
    await fastify.close();
  }

  function drainListener(): Promise<void> {
    drained ??= endCalls();
    return drained;
  }

  async function endCalls(): Promise<void> {
    const { signal } = hurry;
    const reason = toConnectError(new DomainError("unavailable", "SHUTTING_DOWN", "shutting down"), config.name);
    closing.abort(reason);
    const ended = listener.drain();
    if (url !== undefined && !(await within(ended, config.shutdownTimeoutMs, signal))) {
      logger.warn({ shutdown_timeout_ms: config.shutdownTimeoutMs }, "ending calls that are still in flight");
      shutdown.abort(reason);
      await within(ended, FLUSH_GRACE_MS, signal);
    }
    listener.destroy();
  }

  return {
    get url() {
      if (url === undefined) throw new Error(`${config.name} does not listen yet`);
      return url;
    },
    start,
    stop(signal) {
      if (signal?.aborted) hurry.abort();
      signal?.addEventListener("abort", () => hurry.abort(), { once: true });
      stopping ??= drain();
      return stopping;
    },
    stopTimeoutMs: config.drainDelayMs + config.shutdownTimeoutMs + 2 * FLUSH_GRACE_MS,
  };
}

interface FastifyParts {
  readonly config: ServerConfig;
  readonly logger: Logger;
  readonly serve: (exchange: NodeExchange) => void;
}

function createFastify({ config, logger, serve }: FastifyParts): {
  fastify: FastifyInstance;
  listener: Listener;
  handle: RequestHandler;
} {
  let listener: Listener | undefined;
  let handle: RequestHandler | undefined;
  const fastify = Fastify({
    serverFactory(handler) {
      // Fastify's types know one HTTP version at a time.
      handle = handler as RequestHandler;
      listener = createListener(config, logger, serve);
      return listener.server as FastifyInstance["server"];
    },
    // Calls are refused by GOAWAY and the closed port, not by a 503 in no protocol of theirs.
    return503OnClosing: false,
    // Of a path that cannot be decoded.
    frameworkErrors: (_error, { raw: request }, reply) => {
      reply.hijack();
      respondBadPath(request, reply.raw);
    },
  });
  if (listener === undefined || handle === undefined) throw new Error("Fastify has not asked for its server");
  return { fastify, listener, handle };
}

/** Whether the promise settled in time. */
async function within(promise: Promise<void>, ms: number, signal: AbortSignal): Promise<boolean> {
  const timer = new AbortController();
  const late = patiently(delay(ms, undefined, { signal: AbortSignal.any([signal, timer.signal]) })).then(() => false);
  const isInTime = await Promise.race([promise.then(() => true), late]);
  timer.abort();
  return isInTime;
}

/** The promise, without its AbortError. */
async function patiently(promise: Promise<void>): Promise<void> {
  await promise.catch(() => {});
}
