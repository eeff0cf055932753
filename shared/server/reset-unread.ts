import { constants, type Http2ServerResponse, type ServerHttp2Stream } from "node:http2";

/**
 * Makes the answer reset its stream when it is complete before its request is, or when the request was never read: else
 * such a stream would stay, with the unread part of its body taken off the connection's window (RFC 9113, 8.1).
 *
 * @param response of Node's compatibility layer, whose trailers have to be on their way before the reset
 */
export function resetUnread({ stream }: Http2ServerResponse): void {
  // The last of an answer are its trailers; Node sends an (empty) block of them with every answer that has a body.
  stream.on("wantTrailers", resetIfUnread);
}

function resetIfUnread(this: ServerHttp2Stream): void {
  if (!this.readableEnded) setImmediate(() => this.close(constants.NGHTTP2_NO_ERROR));
}
