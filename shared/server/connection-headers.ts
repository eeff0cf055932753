/** What HTTP/2 has no place for (RFC 9113, 8.2.2). */
export const connectionHeaders: ReadonlySet<string> = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
]);

/**
 * Trailers as Node takes them. One that is about the connection it would refuse only when they are due, by an error that
 * nobody can catch.
 */
export function toTrailers(trailer: Headers): Record<string, string> {
  const fields: Record<string, string> = {};
  trailer.forEach((value, name) => {
    if (!connectionHeaders.has(name)) fields[name] = value;
  });
  return fields;
}
