import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";

export type RequestHandler = (
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
) => void;

/** Takes a call off its HTTP/2 stream; false when it does not, and has done nothing with it. */
export type StreamHandler = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  rawHeaders: readonly string[],
) => boolean;

export interface Handlers {
  readonly request: RequestHandler;
  /** Is asked first. Default: every call is for the other. */
  readonly stream?: StreamHandler | undefined;
}

/** A server of one HTTP version that does not listen itself: it is handed its connections. */
export interface ProtocolServer {
  accept(socket: Socket): void;
  /** Closes the connections that are idle, and each of the others when its last call has ended. */
  drain(): void;
  /** Closes what is left, at once. */
  destroy(): void;
}
