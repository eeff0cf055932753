import { validateHeaderName, validateHeaderValue } from "node:http";

/**
 * Header fields that belong to the transport, in both HTTP versions: fields of the connection (RFC 9110 7.6.1, RFC 9113
 * 8.2.2), of the message's framing, and of its routing. A caller or a handler cannot set them. They are dropped and never
 * sent: HTTP/2 peers treat most of them as a connection or stream error.
 */
const transportHeaders: ReadonlySet<string> = new Set([
  "connection",
  "content-length",
  "expect",
  "host",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Whether the field belongs to the transport, in any case. Pseudo-headers of HTTP/2 (`:path`) do. */
export function isTransportHeader(name: string): boolean {
  if (transportHeaders.has(name) || name.startsWith(":")) return true;
  return UPPER_CASE.test(name) && transportHeaders.has(name.toLowerCase());
}

const UPPER_CASE = /[A-Z]/;

/** Removes the fields that belong to the transport. */
export function dropTransportHeaders(headers: Headers): void {
  for (const name of transportHeaders) headers.delete(name);
}

/**
 * Checks a field before it is written (RFC 9110 5.1, 5.5).
 *
 * @throws TypeError for a name that is no token, or a value with control characters
 */
export function validateField(name: string, value: string): void {
  validateHeaderName(name);
  validateHeaderValue(name, value);
}
