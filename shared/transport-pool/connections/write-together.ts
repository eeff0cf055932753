import { AsyncLocalStorage } from "node:async_hooks";
import type { Socket } from "node:net";

// What one call begins is about others too.
const outsideOfCalls = AsyncLocalStorage.snapshot();

interface Write {
  readonly socket: Socket;
  readonly bytes: Uint8Array;
}

const waiting: Write[] = [];

/**
 * Writes when this turn of the event loop ends, right after what is written to other sockets in it. Each request of
 * HTTP/1.1 has a connection, and so a system call, of its own; while the first of several wakes up the peer, the others
 * cost a fraction of that.
 */
export function writeTogether(socket: Socket, bytes: Uint8Array): void {
  if (waiting.push({ socket, bytes }) === 1) outsideOfCalls(setImmediate, writeAll);
}

function writeAll(): void {
  for (const { socket, bytes } of waiting.splice(0)) {
    // Its call may have ended since.
    if (!socket.destroyed) socket.write(bytes);
  }
}
