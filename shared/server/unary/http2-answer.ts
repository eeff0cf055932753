import type { Http2ServerResponse } from "node:http2";
import { type HeaderFields, LazyHeaders } from "#shared/unread";
import { connectionHeaders } from "../connection-headers.ts";
import { DirectResponse, WITH_TRAILERS } from "../direct/direct-call.ts";
import type { ReplyHeaders } from "../short-path/hook-headers.ts";
import type { UnaryAnswer } from "./answer.ts";

/**
 * Writes the answer to the stream itself: the compatibility layer checks and copies headers more than once. It is left to
 * write what it would leave out or refuse.
 *
 * @param others what else is to be among the headers, unless the answer has it too
 * @param trailers follow the body
 * @returns false when nothing has been done
 */
export function writeToStream(
  { status, header, body }: UnaryAnswer,
  others: ReplyHeaders | undefined,
  trailers: Record<string, string> | undefined,
  response: Http2ServerResponse | DirectResponse,
): boolean {
  const isDirect = response instanceof DirectResponse;
  if (body === undefined || !(header instanceof LazyHeaders) || !(isDirect || isOurs(response))) return false;
  const { fields } = header;
  if (fields === undefined) return false;
  const headers: (string | number)[] = [":status", status];
  if (!add(headers, fields) || !(others === undefined || add(headers, others, fields))) return false;
  if (isDirect) {
    response.write(headers, body, trailers);
    return true;
  }
  if (trailers !== undefined) response.addTrailers(trailers);
  // For whoever asks later: that layer does not see what is written here.
  response.statusCode = status;
  response.stream.respond(headers as string[], WITH_TRAILERS);
  response.stream.end(body);
  return true;
}

/** @returns false for what only the compatibility layer knows how to write */
function add(to: (string | number)[], fields: HeaderFields | ReplyHeaders, but?: HeaderFields): boolean {
  for (const name in fields) {
    const value = fields[name];
    if (value === undefined || (but !== undefined && but[name] !== undefined)) continue;
    if (typeof value === "object" || connectionHeaders.has(name)) return false;
    to.push(name, value);
  }
  return true;
}

/** Whether no hook looks at the answer when it is over, or waits for its head to be written: then it is as good as ours. */
function isOurs(response: Http2ServerResponse): boolean {
  // One of the listeners is the server's own.
  const isWatched = response.listenerCount("finish") > 0 || response.listenerCount("close") > 1;
  const isWrapped = Object.hasOwn(response, "writeHead") || Object.hasOwn(response, "end");
  return response.sendDate && !isWatched && !isWrapped;
}
