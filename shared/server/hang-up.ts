import type { ServerResponse } from "node:http";
import type { Http2ServerResponse } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";

/** What has happened to a call whose caller is gone. */
export function hangUpError(): ConnectError {
  return new ConnectError("the caller has hung up", Code.Canceled);
}

/** Fires when the caller leaves before its answer is written. */
export function hangUpSignal(response: ServerResponse | Http2ServerResponse): AbortSignal {
  const controller = new AbortController();
  // The response's "close", not the request's: over HTTP/1.1 that one comes as soon as the body has been read.
  response.once("close", () => {
    if (!response.writableEnded) controller.abort(hangUpError());
  });
  return controller.signal;
}
