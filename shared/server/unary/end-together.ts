import { AsyncLocalStorage } from "node:async_hooks";
import type { ServerResponse } from "node:http";

// What one call begins is about others too.
const outsideOfCalls = AsyncLocalStorage.snapshot();

interface Ending {
  readonly response: ServerResponse;
  readonly body: Uint8Array;
}

const waiting: Ending[] = [];
/** Of a body, to be written in one piece with its head. */
const MOST_JOINED_BYTES = 16_384;

/**
 * Ends the response when this turn of the event loop ends, right after others that were answered in it. Each answer of
 * HTTP/1.1 has a connection, and so a system call, of its own; while the first of several wakes up the peer, the others
 * cost a fraction of that. (Corking the socket would not do: the end of a response uncorks it.)
 */
export function endTogether(response: ServerResponse, body: Uint8Array): void {
  if (waiting.push({ response, body }) === 1) outsideOfCalls(setImmediate, endAll);
}

function endAll(): void {
  // Where the caller has left since, Node drops what is written.
  for (const { response, body } of waiting.splice(0)) endInOnePiece(response, body);
}

/** Node writes the head and a string in one piece, and the head and bytes in two, which costs more than the copy. */
function endInOnePiece(response: ServerResponse, body: Uint8Array): void {
  if (body.length > MOST_JOINED_BYTES) response.end(body);
  else response.end(Buffer.from(body.buffer, body.byteOffset, body.length).toString("latin1"), "latin1");
}
