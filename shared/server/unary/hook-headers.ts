import type { FastifyReply } from "fastify";
import type { Response } from "./answer.ts";

/** Adds what Fastify's hooks have set for the answer, such as CORS. @returns whether there was anything */
export function addHeaders(reply: FastifyReply): boolean {
  const response: Response = reply.raw;
  const headers = reply.getHeaders();
  let hasAny = false;
  for (const header in headers) {
    const value = headers[header];
    if (value === undefined) continue;
    response.setHeader(header, value);
    hasAny = true;
  }
  return hasAny;
}
