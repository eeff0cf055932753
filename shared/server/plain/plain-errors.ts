import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import type { Logger } from "#shared/logging";

/**
 * Responds for a plain HTTP route that failed: Fastify's own would send the message of any error that was thrown. Errors
 * that name a status of the caller's fault (4xx) say what they have to say; the rest is logged and says nothing.
 */
export function respondPlainError(logger: Pick<Logger, "error">) {
  return (error: FastifyError, request: FastifyRequest, reply: FastifyReply): void => {
    const { statusCode = 500 } = error;
    if (statusCode >= 400 && statusCode < 500) {
      reply.code(statusCode).send({ code: "invalid_argument", message: error.message });
      return;
    }
    logger.error({ err: error, method: `${request.method} ${request.url.split("?", 1)[0]}` }, "request failed");
    reply.code(500).send({ code: "internal", message: "internal error" });
  };
}
