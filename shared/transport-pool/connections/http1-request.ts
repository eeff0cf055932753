import type { UnaryExchange } from "./unary-stream.ts";

/** What this side says itself of each request, so that nobody else can say where it ends. */
const OWN = new Set(["host", "connection", "content-length", "transfer-encoding", "keep-alive"]);
/** A line of its own could be smuggled in by any of the others. */
const NO_FIELDS = /[^\t\x20-\x7e\x80-\xff]/;
const NO_TARGET = /[^\x21-\x7e]/;

/**
 * The whole request in one piece: with the head and the body in two, each call would cost a write more.
 *
 * @throws TypeError when a header has a character that it must not have, as Node's client does
 */
export function encodeHttp1Request({ method, path, headers, body }: UnaryExchange, host: string): Buffer {
  let fields = "";
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] ?? "";
    const value = headers[index + 1] ?? "";
    if (OWN.has(name)) continue;
    if (NO_FIELDS.test(value) || NO_FIELDS.test(name)) throw new TypeError(`invalid character in the header ${name}`);
    fields += `${name}: ${value}\r\n`;
  }
  if (NO_TARGET.test(path) || NO_TARGET.test(method))
    throw new TypeError("invalid character in the method or the path");
  const head =
    `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\n` +
    `${fields}content-length: ${body.length}\r\n\r\n`;
  const request = Buffer.allocUnsafe(head.length + body.length);
  request.write(head, 0, "latin1");
  request.set(body, head.length);
  return request;
}
