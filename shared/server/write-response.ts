import type { IncomingMessage, ServerResponse } from "node:http";
import { constants, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { toTrailers } from "./connection-headers.ts";
import type { DirectResponse } from "./direct/direct-call.ts";
import { LONGEST_TIMER_MS } from "./timeout-headers.ts";

/** How long after its deadline what a call has written, such as DEADLINE_EXCEEDED, may take to get out. */
export const LAST_WORDS_MS = 1_000;

type Response = ServerResponse | Http2ServerResponse;

/** What of an answer was written. */
export interface Written {
  /** False when the caller has left, or not read it in time. */
  readonly isComplete: boolean;
  /** The last chunk of the body. */
  readonly last: Uint8Array | undefined;
}

/**
 * Writes what a Connect handler answers, as fast as the caller reads. When the caller leaves, the handler's stream is
 * closed, and that is no failure. A caller that does not read is made to leave soon after the deadline: until then it
 * has its answer in our memory.
 *
 * @param deadlineMs on the clock of `performance.now()`
 * @throws whatever the answer's headers, body or trailers fail with
 */
export async function writeResponse(
  { status, header, body, trailer }: UniversalServerResponse,
  request: IncomingMessage | Http2ServerRequest,
  response: Response,
  deadlineMs: number | undefined,
): Promise<Written> {
  const iterator = body?.[Symbol.asyncIterator]();
  let isOpen = iterator !== undefined;
  let last: Uint8Array | undefined;
  try {
    // The first item comes before the headers, which the handler may set until then.
    let item = await iterator?.next();
    if (isClosed(response)) return { isComplete: false, last };
    // What is left of a body that was not worth reading would have to be read before the connection's next request.
    if (!("stream" in response) && !request.complete) response.shouldKeepAlive = false;
    setHeaders(response, header);
    // The overloads of the two classes have no call in common.
    (response as ServerResponse).writeHead(status);
    while (item !== undefined && item.done !== true) {
      if (!(response as ServerResponse).write(item.value)) await written(response, "drain", deadlineMs);
      if (isClosed(response)) return { isComplete: false, last };
      last = item.value;
      item = await iterator?.next();
    }
    isOpen = false;
    if (isClosed(response)) return { isComplete: false, last };
    if (trailer !== undefined) response.addTrailers(toTrailers(trailer));
    response.end();
    return { isComplete: await flushed(response, deadlineMs), last };
  } finally {
    if (isOpen) await iterator?.return?.();
  }
}

export function setHeaders(response: Response, header: Headers | undefined): void {
  if (header === undefined) return;
  for (const [name, value] of header) if (name !== "set-cookie") response.setHeader(name, value);
  const cookies = header.getSetCookie();
  if (cookies.length > 0) response.setHeader("set-cookie", cookies);
}

/** Whether nobody is left to write to. */
export function isClosed(response: Response | DirectResponse): boolean {
  return "stream" in response ? response.stream.destroyed || response.stream.closed : response.destroyed;
}

/** Whether all of an ended answer has gone out, which in most cases needs no waiting. */
async function flushed(response: Response, deadlineMs: number | undefined): Promise<boolean> {
  const { stream } = response as Partial<Http2ServerResponse>;
  const writable = stream ?? (response as ServerResponse);
  if (writable.writableFinished) return true;
  // HTTP/2 sends what it has room for when the turn of the event loop ends.
  if (stream !== undefined) await new Promise(setImmediate);
  if (!writable.writableFinished && !isClosed(response)) await written(response, "finish", deadlineMs);
  return writable.writableFinished;
}

/** Settles at the event, or when nobody is left to write to; past the deadline, makes that so. */
function written(response: Response, event: "drain" | "finish", deadlineMs: number | undefined): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  // An HTTP/2 response has its "finish" only when its stream closes.
  const writable = "stream" in response ? response.stream : response;
  if (isClosed(response)) resolve();
  writable.once(event, resolve);
  writable.once("close", resolve);
  const timer = deadlineMs === undefined ? undefined : setTimeout(giveUp, timeLeft(deadlineMs));
  function giveUp(): void {
    if ("stream" in response) response.stream.close(constants.NGHTTP2_CANCEL);
    else response.destroy();
    resolve();
  }
  return promise.finally(() => {
    clearTimeout(timer);
    writable.off(event, resolve);
    writable.off("close", resolve);
  });
}

function timeLeft(deadlineMs: number): number {
  return Math.min(Math.max(0, deadlineMs - performance.now()) + LAST_WORDS_MS, LONGEST_TIMER_MS);
}
