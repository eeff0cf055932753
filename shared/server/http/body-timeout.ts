import { constants } from "node:http2";
import type { NodeRequest, NodeResponse } from "../connect/fallback.ts";
import { MAX_TIMER_MS } from "../rpc/timeout.ts";

/** Where the server's own limit on time is off. */
const DEFAULT_MS = 30_000;

/**
 * Ends a request that is no call, on an app's own routes or on a path that is not served, whose body has not arrived in time:
 * HTTP 408 where no response has begun.
 *
 * @param isCall calls have deadlines of their own
 */
export function limitBody(request: NodeRequest, response: NodeResponse, maxMs: number, isCall: () => boolean): void {
  if (request.complete || ("stream" in request && request.stream.readableEnded)) return;
  const timer = setTimeout(onTimeout, Math.min(maxMs === 0 ? DEFAULT_MS : maxMs, MAX_TIMER_MS));
  request.once("end", stop);
  response.once("close", stop);

  function stop(): void {
    clearTimeout(timer);
  }

  function onTimeout(): void {
    if (isCall()) return;
    if (!response.headersSent) {
      response.statusCode = 408;
      response.setHeader("connection", "close");
      response.end();
    }
    if ("stream" in response) response.stream.close(constants.NGHTTP2_CANCEL);
    else response.socket?.end();
  }
}
