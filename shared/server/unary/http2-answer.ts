import type { Http2ServerResponse, OutgoingHttpHeaders } from "node:http2";
import { LazyHeaders } from "#shared/unread";
import type { UnaryAnswer } from "./answer.ts";

/** What HTTP/2 has no place for (RFC 9113, 8.2.2). */
const OF_CONNECTIONS: ReadonlySet<string> = new Set([
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
]);

/** Also where there are none: without, Node may say "close" before it knows that all was written. */
const WITH_TRAILERS = { waitForTrailers: true };

/**
 * Writes the answer to the stream itself: the compatibility layer checks and copies headers more than once. It is left to
 * write what it would leave out or refuse.
 *
 * @param trailers are sent by that layer
 * @returns false when nothing has been done
 */
export function writeToStream(
  { status, header, body }: UnaryAnswer,
  trailers: Record<string, string> | undefined,
  response: Http2ServerResponse,
): boolean {
  if (body === undefined || !(header instanceof LazyHeaders)) return false;
  const { fields } = header;
  if (fields === undefined) return false;
  const headers: OutgoingHttpHeaders = { ":status": status };
  for (const name in fields) {
    const value = fields[name];
    if (typeof value !== "string" || OF_CONNECTIONS.has(name)) return false;
    headers[name] = value;
  }
  if (trailers !== undefined) response.addTrailers(trailers);
  // For whoever asks later: that layer does not see what is written here.
  response.statusCode = status;
  response.stream.respond(headers, WITH_TRAILERS);
  response.stream.end(body);
  return true;
}
