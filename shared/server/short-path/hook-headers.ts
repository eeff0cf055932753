import type { Response } from "../unary/answer.ts";

/** What Fastify's hooks have set for the answer, such as CORS. */
export type ReplyHeaders = Readonly<NodeJS.Dict<number | string | string[]>>;

export function addHeaders(response: Response, headers: ReplyHeaders): void {
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined) response.setHeader(name, value);
  }
}
