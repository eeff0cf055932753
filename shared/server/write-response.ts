import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";

type Response = ServerResponse | Http2ServerResponse;

/** What of an answer was written. */
export interface Written {
  /** False when the caller has left before. */
  readonly isComplete: boolean;
  /** The last chunk of the body. */
  readonly last: Uint8Array | undefined;
}

/**
 * Writes what a Connect handler answers, as fast as the caller reads. When the caller leaves, the handler's stream is
 * closed, and that is no failure.
 *
 * @throws whatever the answer's headers, body or trailers fail with
 */
export async function writeResponse(
  { status, header, body, trailer }: UniversalServerResponse,
  request: IncomingMessage | Http2ServerRequest,
  response: Response,
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
      if (!(response as ServerResponse).write(item.value)) await drained(response);
      if (isClosed(response)) return { isComplete: false, last };
      last = item.value;
      item = await iterator?.next();
    }
    isOpen = false;
    if (isClosed(response)) return { isComplete: false, last };
    if (trailer !== undefined) response.addTrailers(Object.fromEntries(trailer));
    response.end();
    return { isComplete: true, last };
  } finally {
    if (isOpen) await iterator?.return?.();
  }
}

function setHeaders(response: Response, header: Headers | undefined): void {
  if (header === undefined) return;
  for (const [name, value] of header) if (name !== "set-cookie") response.setHeader(name, value);
  const cookies = header.getSetCookie();
  if (cookies.length > 0) response.setHeader("set-cookie", cookies);
}

/** Whether nobody is left to write to. */
function isClosed(response: Response): boolean {
  return "stream" in response ? response.stream.destroyed || response.stream.closed : response.destroyed;
}

/** Settles when there is room to write again, or nobody to write to. */
function drained(response: Response): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (isClosed(response)) resolve();
  response.once("drain", resolve);
  response.once("close", resolve);
  return promise.finally(() => {
    response.off("drain", resolve);
    response.off("close", resolve);
  });
}
