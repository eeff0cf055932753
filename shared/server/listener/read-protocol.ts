import type { Socket } from "node:net";

export type Protocol = "h1" | "h2";

// How every HTTP/2 connection begins (RFC 9113, 3.4), and no HTTP/1.1 request.
const PREFACE = Buffer.from("PRI * HTTP/2.0");

/**
 * Looks at a cleartext connection's first bytes, which may come one by one, puts them back and says which protocol
 * speaks. A connection that has not said enough within `timeoutMs` is closed.
 */
export function readProtocol(socket: Socket, timeoutMs: number, found: (protocol: Protocol) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const timer = setTimeout(() => socket.destroy(), timeoutMs);
  socket.on("readable", read);
  socket.once("close", stop);

  function read(): void {
    const chunk: Buffer | null = socket.read();
    if (chunk === null) return;
    seen = Buffer.concat([seen, chunk]);
    const length = Math.min(seen.length, PREFACE.length);
    const isPreface = seen.subarray(0, length).equals(PREFACE.subarray(0, length));
    if (isPreface && length < PREFACE.length) return;
    stop();
    socket.unshift(seen);
    found(isPreface ? "h2" : "h1");
  }

  function stop(): void {
    clearTimeout(timer);
    socket.off("readable", read);
    socket.off("close", stop);
  }
}
