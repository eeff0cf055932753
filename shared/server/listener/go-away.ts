import { TLSSocket } from "node:tls";
import type { Http2Connection } from "../http/http2-connection.ts";

/** How long a client may take to answer the ping that follows the first GOAWAY, and to close its end after the last call. */
const PEER_TIMEOUT_MS = 1_000;

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
export function goAwayGracefully(connection: Http2Connection): void {
  const { session, socket } = connection;
  if (session.closed || session.destroyed) return;
  let timer: NodeJS.Timeout | undefined;
  if (socket instanceof TLSSocket) {
    close();
    return;
  }
  timer = setTimeout(close, PEER_TIMEOUT_MS);
  if (socket.writable) socket.write(NOTICE);
  session.ping(close);

  function close(): void {
    clearTimeout(timer);
    if (session.closed || session.destroyed) return;
    session.close();
    connection.onIdle(closeSocketSoon);
  }

  // Node waits for the peer's end of the connection, which one that is frozen never sends.
  function closeSocketSoon(): void {
    const last = setTimeout(() => socket.destroy(), PEER_TIMEOUT_MS);
    socket.once("close", () => clearTimeout(last));
  }
}
