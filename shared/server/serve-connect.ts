import type { ConnectError } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import type { FastifyInstance } from "fastify";
import type { Logger } from "#shared/logging";
import { answeredError } from "./answered-error.ts";
import { callInfoOf } from "./call-info.ts";
import type { ServerConfig } from "./config.ts";
import type { DirectRoute, DirectRoutes } from "./direct/direct-routes.ts";
import { giveUp } from "./give-up.ts";
import { hangUpError } from "./hang-up.ts";
import { readBody } from "./read-body.ts";
import { addHeaders } from "./short-path/hook-headers.ts";
import { contentTypes } from "./short-path/ordinary.ts";
import type { HandedOn, HandOn, ShortRoute, ShortRouteOf } from "./short-path/short-route.ts";
import { cutTimeout } from "./timeout-headers.ts";
import { toUniversalRequest } from "./universal-request.ts";
import { blameCaller } from "./unreadable-request.ts";
import { writeResponse } from "./write-response.ts";

export interface ServeConnectOptions {
  readonly config: ServerConfig;
  readonly logger: Logger;
  readonly handlers: readonly UniversalHandler[];
  /** Takes a method's ordinary calls. Undefined: Connect's handler serves them all. */
  readonly shortRouteOf: ShortRouteOf;
  /** Where calls are taken before they come to Fastify. Undefined: nowhere. */
  readonly direct: DirectRoutes | undefined;
  /** Ends every call. */
  readonly shutdown: AbortSignal;
}

/**
 * Connect's handlers as Fastify routes. In place of `fastifyConnectPlugin`, which leaves requests without an
 * answer when their authority makes no URL, reports to the console, lets a caller who stops sending keep a call for
 * ever, and closes an HTTP/1.1 connection instead of answering a message that is too large.
 */
export function serveConnect(fastify: FastifyInstance, options: ServeConnectOptions): void {
  fastify.register((scope, _options, done) => {
    // The handlers read the body themselves, and refuse content types in their protocols' ways.
    scope.removeAllContentTypeParsers();
    // By their names also, since Fastify remembers nothing of what it finds for an asterisk.
    for (const types of [[...contentTypes], "*"]) {
      scope.addContentTypeParser(types, (_request, _payload, done) => done(null));
    }
    for (const handler of options.handlers) {
      const handOn: HandOn = (call, body) => void answer(handler, call, options, body);
      const short = options.shortRouteOf(handler, handOn);
      if (isDirect(short)) options.direct?.add(handler.requestPath, short);
      scope.all(handler.requestPath, (request, reply) => {
        reply.hijack();
        if (short?.take(request, reply) === true) return;
        void answer(handler, { request: request.raw, response: reply.raw, reply }, options);
      });
    }
    done();
  });
}

function isDirect(route: ShortRoute | undefined): route is ShortRoute & DirectRoute {
  return route?.takeDirect !== undefined;
}

/**
 * Never rejects.
 *
 * @param source the body, where some of it has been read already
 */
async function answer(
  handler: UniversalHandler,
  { request: raw, response, reply }: HandedOn,
  { config, logger, shutdown }: ServeConnectOptions,
  source?: AsyncIterable<Uint8Array>,
): Promise<void> {
  const info = callInfoOf(raw);
  const method = `${handler.service.typeName}/${handler.method.name}`;
  let answeredWith: () => ConnectError | undefined = hangUpError;
  try {
    const isUnary = handler.method.methodKind === "unary";
    const timeoutMs = cutTimeout(raw.headers, isUnary ? config.maxTimeoutMs : config.maxStreamTimeoutMs);
    if (timeoutMs !== undefined) info.deadlineMs = info.startedAtMs + timeoutMs;
    // A streaming handler is told of its deadline while it reads; a unary one is not called before all is read.
    const deadlineMs = isUnary ? info.deadlineMs : undefined;
    const body = readBody(source ?? raw.iterator({ destroyOnReturn: false }), { deadlineMs, shutdown });
    let universalResponse = await handler({ ...toUniversalRequest(raw, response, info), body });
    if (isUnary && info.log === undefined) universalResponse = await blameCaller(universalResponse);
    // What hooks have set, such as CORS.
    if (reply !== undefined) addHeaders(response, reply.getHeaders());
    const { isComplete, last } = await writeResponse(universalResponse, raw, response, info.deadlineMs);
    if (isComplete) answeredWith = () => answeredError(universalResponse, last);
  } catch (err) {
    const error = giveUp(err, { logger, method, response });
    answeredWith = () => error;
  }
  try {
    info.log?.ended(answeredWith);
  } catch (err) {
    logger.error({ err, method }, "the end of a call cannot be told");
  }
}
