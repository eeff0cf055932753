import { callNext } from "#shared/rpc";
import type { Endpoint } from "../balancing/endpoint.ts";

let handed: Endpoint | undefined;

/**
 * Calls `send`, which has to take the endpoint before it returns. The interfaces of Connect's transports have no room
 * for it, and an AsyncLocalStorage costs more than this one variable.
 */
export function handOn<Request, Response>(
  endpoint: Endpoint,
  send: (request: Request) => Promise<Response>,
  request: Request,
): Promise<Response> {
  handed = endpoint;
  const sent = callNext(send, request);
  handed = undefined;
  return sent;
}

/** The endpoint that was chosen for the attempt which is being sent. */
export function takeEndpoint(): Endpoint {
  if (handed === undefined) throw new TypeError("not in an attempt of the transport pool");
  return handed;
}
