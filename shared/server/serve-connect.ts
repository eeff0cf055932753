import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Logger } from "#shared/logging";
import { answeredError } from "./answered-error.ts";
import { callInfoOf } from "./call-info.ts";
import type { ServerConfig } from "./config.ts";
import { hangUpError } from "./hang-up.ts";
import { readBody } from "./read-body.ts";
import { cutTimeout } from "./timeout-headers.ts";
import { toUniversalRequest } from "./universal-request.ts";
import { blameCaller } from "./unreadable-request.ts";
import { writeResponse } from "./write-response.ts";

export interface ServeConnectOptions {
  readonly config: ServerConfig;
  readonly logger: Logger;
  readonly handlers: readonly UniversalHandler[];
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
    scope.addContentTypeParser("*", (_request, _payload, done) => done(null));
    for (const handler of options.handlers) {
      scope.all(handler.requestPath, (request, reply) => {
        reply.hijack();
        void answer(handler, request, reply, options);
      });
    }
    done();
  });
}

/** Never rejects. */
async function answer(
  handler: UniversalHandler,
  request: FastifyRequest,
  reply: FastifyReply,
  { config, logger, shutdown }: ServeConnectOptions,
): Promise<void> {
  const raw: IncomingMessage | Http2ServerRequest = request.raw;
  const response: ServerResponse | Http2ServerResponse = reply.raw;
  const info = callInfoOf(raw);
  const method = `${handler.service.typeName}/${handler.method.name}`;
  let answeredWith: () => ConnectError | undefined = hangUpError;
  try {
    const isUnary = handler.method.methodKind === "unary";
    const timeoutMs = cutTimeout(raw.headers, isUnary ? config.maxTimeoutMs : config.maxStreamTimeoutMs);
    if (timeoutMs !== undefined) info.deadlineMs = info.startedAtMs + timeoutMs;
    // A streaming handler is told of its deadline while it reads; a unary one is not called before all is read.
    const deadlineMs = isUnary ? info.deadlineMs : undefined;
    const body = readBody(raw, { deadlineMs, shutdown });
    let universalResponse = await handler({ ...toUniversalRequest(raw, response, info), body });
    if (isUnary && info.onEnd === undefined) universalResponse = await blameCaller(universalResponse);
    // What hooks have set, such as CORS.
    for (const [name, value] of Object.entries(reply.getHeaders())) {
      if (value !== undefined) response.setHeader(name, value);
    }
    const { isComplete, last } = await writeResponse(universalResponse, raw, response, info.deadlineMs);
    if (isComplete) answeredWith = () => answeredError(universalResponse, last);
  } catch (err) {
    const error = new ConnectError("the call cannot be answered", Code.Internal, undefined, undefined, err);
    answeredWith = () => error;
    logger.error({ err, method }, "call cannot be answered");
    if (!response.headersSent) {
      response.statusCode = 500;
      response.end();
    } else {
      response.destroy(err instanceof Error ? err : undefined);
    }
  }
  try {
    info.onEnd?.(answeredWith);
  } catch (err) {
    logger.error({ err, method }, "the end of a call cannot be told");
  }
}
