import type { IncomingMessage, ServerResponse } from "node:http";
import http2, { type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { Http1Exchange } from "../http/http1-exchange.ts";
import { Http2Exchange } from "../http/http2-exchange.ts";

/** An exchange on a request of Node's. */
export type NodeExchange = Http1Exchange | Http2Exchange;

export type NodeRequest = IncomingMessage | Http2ServerRequest;
export type NodeResponse = ServerResponse | Http2ServerResponse;
export type RequestHandler = (request: NodeRequest, response: NodeResponse) => void;

const exchanges = new WeakMap<object, NodeExchange>();

/** The exchange that a request came with. */
export function exchangeOf(request: NodeRequest): NodeExchange {
  const exchange = exchanges.get("stream" in request ? request.stream : request);
  if (exchange === undefined) throw new Error("the request has not come through the listener");
  return exchange;
}

/**
 * Serves every exchange that the fast path does not take: by Fastify, and calls by Connect's own plugin for it. No other part of
 * the server knows that these need Node's requests and responses.
 */
export function createFallback(handle: RequestHandler): (exchange: NodeExchange) => void {
  // Node's compatibility layer, which makes requests and responses of streams, comes with a server. This one has no
  // connections.
  const compatibility = http2.createServer(handle);
  return (exchange) => {
    if (exchange instanceof Http2Exchange) {
      const { stream, headers, flags, rawHeaders } = exchange;
      exchanges.set(stream, exchange);
      exchange.detach();
      compatibility.emit("stream", stream, headers, flags, rawHeaders);
    } else {
      exchanges.set(exchange.request, exchange);
      handle(exchange.request, exchange.response);
    }
  };
}
