import type { FastifyReply } from "fastify";
import type { Response } from "../unary/answer.ts";

/** Adds what Fastify's hooks have set for the answer, such as CORS. */
export function addHeaders(reply: FastifyReply): void {
  const response: Response = reply.raw;
  const headers = reply.getHeaders();
  for (const header in headers) {
    const value = headers[header];
    if (value !== undefined) response.setHeader(header, value);
  }
}
