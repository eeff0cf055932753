import { setTimeout as delay } from "node:timers/promises";
import type { Interceptor } from "@connectrpc/connect";
import cors, { type FastifyCorsOptions } from "@fastify/cors";
import Fastify, { type FastifyInstance } from "fastify";
import { DomainError, toConnectError } from "#shared/errors";
import type { Readiness } from "#shared/lifecycle";
import type { Logger } from "#shared/logging";
import type { ServerConfig } from "./config.ts";
import { DirectRoutes } from "./direct/direct-routes.ts";
import { serverInterceptors } from "./interceptors/index.ts";
import { createListener, type Listener } from "./listener.ts";
import { answerNotFound } from "./not-found.ts";
import { answerPlainError } from "./plain-errors.ts";
import type { RequestHandler } from "./protocol-server.ts";
import { logReadiness } from "./readiness-log.ts";
import { createRequestLog, type RequestLog } from "./request-log.ts";
import { addRoutes, type Routes } from "./routes.ts";
import { createAdmission } from "./shedding/admission.ts";

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

/** How long calls that were told to end may take to write their UNAVAILABLE. */
const LAST_WORDS_MS = 1_000;

/** A Fastify server that speaks gRPC, gRPC-Web, Connect and plain HTTP on one port. */
export function createServer(options: ServerOptions): Server {
  const { config, logger, readiness, routes, interceptors = [], validate = true } = options;
  const closing = new AbortController();
  const shutdown = new AbortController();
  /** Ends the waiting of a stop. */
  const hurry = new AbortController();
  let url: string | undefined;
  let stopping: Promise<void> | undefined;
  let endReadinessLog = () => {};

  const admission = createAdmission({ config, logger, eventLoopDelayMs: options.eventLoopDelayMs });
  const log = createRequestLog(logger);
  const isDirect = config.fastPath && options.fastify === undefined;
  const direct = isDirect ? new DirectRoutes({ log, leavesOrigins: options.cors !== undefined }) : undefined;
  const { fastify, listener } = createFastify({ config, logger, log, direct });
  fastify.setNotFoundHandler(answerNotFound);
  fastify.setErrorHandler(answerPlainError(logger));
  if (options.cors !== undefined) fastify.register(cors, options.cors);
  const configured = Promise.try(() => options.fastify?.(fastify));
  // `start` says so, which may be later than Node is willing to wait for somebody to listen.
  configured.catch(() => {});
  addRoutes(fastify, {
    config,
    logger,
    readiness,
    routes,
    interceptors: serverInterceptors({ logger, domain: config.name, admission, validate, own: interceptors }),
    hasHooks: options.fastify !== undefined || options.cors !== undefined,
    direct,
    closing: closing.signal,
    shutdown: shutdown.signal,
  });

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
    const { signal } = hurry;
    readiness.drain("shutting down");
    endReadinessLog();
    listener.announce();
    if (url !== undefined) await patiently(delay(config.drainDelayMs, undefined, { signal }));
    const reason = toConnectError(new DomainError("unavailable", "SHUTTING_DOWN", "shutting down"), config.name);
    closing.abort(reason);
    const drained = listener.drain();
    if (url !== undefined && !(await within(drained, config.shutdownTimeoutMs, signal))) {
      logger.warn({ shutdown_timeout_ms: config.shutdownTimeoutMs }, "ending calls that are still in flight");
      shutdown.abort(reason);
      await within(drained, LAST_WORDS_MS, signal);
    }
    listener.destroy();
    admission?.stop();
    await fastify.close();
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
    stopTimeoutMs: config.drainDelayMs + config.shutdownTimeoutMs + 2 * LAST_WORDS_MS,
  };
}

interface FastifyParts {
  readonly config: ServerConfig;
  readonly logger: Logger;
  readonly log: RequestLog;
  readonly direct: DirectRoutes | undefined;
}

function createFastify({ config, logger, log, direct }: FastifyParts): {
  fastify: FastifyInstance;
  listener: Listener;
} {
  let listener: Listener | undefined;
  const fastify = Fastify({
    serverFactory(handler) {
      listener = createListener(config, logger, {
        request(request, response) {
          log.watch(request, response);
          // Fastify's types know one HTTP version at a time.
          (handler as RequestHandler)(request, response);
        },
        stream: direct?.take.bind(direct),
      });
      return listener.server as FastifyInstance["server"];
    },
    // Calls are refused by GOAWAY and the closed port, not by a 503 in no protocol of theirs.
    return503OnClosing: false,
  });
  if (listener === undefined) throw new Error("Fastify has not asked for its server");
  return { fastify, listener };
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
