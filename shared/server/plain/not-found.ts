import type { FastifyReply, FastifyRequest } from "fastify";
import { encodeFrame } from "#shared/rpc";
import type { NodeRequest, NodeResponse } from "../connect/fallback.ts";
import { resetUnread } from "../http/http2-exchange.ts";

/** `unimplemented` in gRPC's numbers. */
const UNIMPLEMENTED = "12";
const CONNECT_END = 0b10;

/**
 * Responds to a path that is not served, in the protocol that asks: gRPC and gRPC-Web read the status from the headers of a
 * response without a body ("Trailers-Only"), Connect from JSON, the rest from HTTP.
 */
export function respondNotFound(request: FastifyRequest, reply: FastifyReply): void {
  const message = `${pathOf(request.url)} is not served here`;
  const contentType = request.headers["content-type"] ?? "";
  if (isFramed(contentType)) {
    reply.hijack();
    respondUnimplemented(reply.raw, contentType, message);
    return;
  }
  reply.code(404).send({ code: "unimplemented", message });
}

/** Responds to a path that is none, such as `/%zz`, for which Fastify has no route: HTTP 400, or as `respondNotFound` does. */
export function respondBadPath({ headers, url = "" }: NodeRequest, response: NodeResponse): void {
  const message = `${pathOf(url)} is not a path`;
  const contentType = headers["content-type"] ?? "";
  if (isFramed(contentType)) {
    respondUnimplemented(response, contentType, message);
    return;
  }
  response.statusCode = 400;
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify({ code: "invalid_argument", message }));
}

function pathOf(url: string): string {
  return url.split("?", 1)[0] ?? "";
}

function isFramed(contentType: string): boolean {
  return /^application\/(grpc|connect\+)/i.test(contentType);
}

function respondUnimplemented(response: NodeResponse, contentType: string, message: string): void {
  response.statusCode = 200;
  response.setHeader("content-type", contentType);
  if (/^application\/connect\+/i.test(contentType)) {
    response.end(encodeFrame(CONNECT_END, Buffer.from(JSON.stringify({ error: { code: "unimplemented", message } }))));
    return;
  }
  response.setHeader("grpc-status", UNIMPLEMENTED);
  response.setHeader("grpc-message", encodeURIComponent(message.toWellFormed()));
  response.end();
  if ("stream" in response) resetUnread.call(response.stream);
}
