import type { Socket } from "node:net";

const corked: Socket[] = [];

/**
 * Has what is written to the socket from now on go out when this turn of the event loop ends, right after what is
 * written to others in it. Each answer of HTTP/1.1 has a connection, and so a system call, of its own; while the first
 * of several wakes up the peer, the others cost a fraction of that.
 */
export function writeTogether(socket: Socket): void {
  socket.cork();
  if (corked.push(socket) === 1) setImmediate(uncorkAll);
}

function uncorkAll(): void {
  for (const socket of corked.splice(0)) socket.uncork();
}
