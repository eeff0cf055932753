import type { Http2Session } from "node:http2";

/** How long a client may take to answer the ping that follows the first GOAWAY. */
const PING_TIMEOUT_MS = 1_000;

/**
 * Ends a server's session without failing a call (RFC 9113, 6.8): a first GOAWAY with the highest stream id says "open
 * no more here"; once the client has answered a ping, and so has seen it, `close()` sends the second with the last
 * stream that was taken, and the session ends when its streams have.
 */
export function goAwayGracefully(session: Http2Session): void {
  if (session.closed || session.destroyed) return;
  const timer = setTimeout(close, PING_TIMEOUT_MS);
  session.goaway(0, 2 ** 31 - 1);
  session.ping(close);

  function close(): void {
    clearTimeout(timer);
    if (!session.closed && !session.destroyed) session.close();
  }
}
