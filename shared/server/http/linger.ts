import type { IncomingMessage } from "node:http";

/** How long after an early response its request may go on. */
const LINGER_MS = 5_000;
/** How much of it is read and dropped. */
const LINGER_BYTES = 16 * 1024 * 1024;

/**
 * Reads and drops the rest of a request of HTTP/1.1 whose response was written before it was complete. To close at once would
 * take the response from a client that still sends: its writes fail before it reads. Beyond the bounds the connection closes.
 *
 * @param done the request is complete, or its connection closed
 */
export function linger(request: IncomingMessage, done: () => void): void {
  const { socket } = request;
  const limit = socket.bytesRead + LINGER_BYTES;
  const timer = setTimeout(end, LINGER_MS);
  request.on("data", () => {
    if (socket.bytesRead > limit) end();
  });
  request.on("error", () => {});
  request.once("close", settle);
  request.resume();

  function end(): void {
    socket.destroy();
  }

  function settle(): void {
    clearTimeout(timer);
    done();
  }
}
