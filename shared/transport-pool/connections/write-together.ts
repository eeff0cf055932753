import { AsyncLocalStorage } from "node:async_hooks";

// What one call begins is about others too.
const outsideOfCalls = AsyncLocalStorage.snapshot();

/** Who has a request to write. */
export interface WaitingWriter {
  writeWaiting(): void;
}

const waiting: WaitingWriter[] = [];

/**
 * Writes when this turn of the event loop ends, right after what is written to other sockets in it. Each request of
 * HTTP/1.1 has a connection, and so a system call, of its own; while the first of several wakes up the peer, the others
 * cost a fraction of that.
 */
export function writeTogether(writer: WaitingWriter): void {
  if (waiting.push(writer) === 1) outsideOfCalls(setImmediate, writeAll);
}

function writeAll(): void {
  for (const writer of waiting.splice(0)) writer.writeWaiting();
}
