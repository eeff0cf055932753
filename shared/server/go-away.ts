import type { Http2Session } from "node:http2";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";

/** How long a client may take to answer the ping that follows the first GOAWAY. */
const PING_TIMEOUT_MS = 1_000;

/** A GOAWAY frame with the highest stream id and NO_ERROR: "open no more here", and nothing is refused yet. */
const NOTICE = Buffer.from("0000080700000000007fffffff00000000", "hex");

/**
 * Ends a server's session without failing a call (RFC 9113, 6.8): a first GOAWAY with the highest stream id gives
 * notice; once the client has answered a ping, and so has seen it, `close()` sends the second with the last stream that
 * was taken, and the session ends when its streams have.
 *
 * The notice goes around Node's HTTP/2, which stops reading once it has sent a GOAWAY and has no stream open: calls that
 * crossed the notice on the wire, and the answer to the ping, would never be read. The frame is written whole, and so
 * stands between other frames. Node's TLS cannot take a second writer (it aborts the process): there the one GOAWAY of
 * `close()` must do, and clients send again what it says was not taken.
 */
export function goAwayGracefully(session: Http2Session, socket: Socket): void {
  if (session.closed || session.destroyed) return;
  if (socket instanceof TLSSocket) {
    session.close();
    return;
  }
  const timer = setTimeout(close, PING_TIMEOUT_MS);
  if (socket.writable) socket.write(NOTICE);
  session.ping(close);

  function close(): void {
    clearTimeout(timer);
    if (!session.closed && !session.destroyed) session.close();
  }
}
