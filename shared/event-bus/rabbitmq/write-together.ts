import type { Writable } from "node:stream";
import type { Connection } from "rabbitmq-client";

/**
 * Has what is written to the broker in one turn of the event loop go out in one system call. Call it before a write.
 * rabbitmq-client makes a call for each message and each acknowledgement, which is half of what they cost. Its socket is
 * no part of its interface: in a version that has none there, writes go out as before.
 */
export function createWriteTogether(rabbit: Connection): () => void {
  let corked = false;

  return () => {
    if (corked) return;
    const { _socket: socket } = rabbit as unknown as { readonly _socket?: Writable };
    if (typeof socket?.cork !== "function") return;
    corked = true;
    socket.cork();
    // After what was received together has been handled: each message comes in an immediate of its own.
    setImmediate(() => {
      corked = false;
      socket.uncork();
    });
  };
}
