import { AsyncLocalStorage } from "node:async_hooks";
import type { Socket } from "node:net";
import { openSocket } from "../socket.ts";
import type { ClientTls } from "../tls.ts";

export interface Http1SocketsOptions {
  readonly address: string;
  readonly authority: string;
  readonly tls: ClientTls | undefined;
  readonly connectTimeoutMs: number;
  /** The peer closed a connection, or it broke, before a single byte was received on it. */
  readonly onUseless: (cause: Error) => void;
}

/** The sockets to one peer. */
export interface Http1Sockets {
  /** Resolves when the peer is connected to. */
  dial(): Promise<Socket>;
  /** Those that are connecting included. */
  size(): number;
  destroy(): void;
  /** Resolves when those of now are closed. */
  closed(): Promise<void>;
}

/** How long a response is waited for after the peer has stopped to read the request. */
const LATE_RESPONSE_MS = 1_000;

export function createHttp1Sockets(options: Http1SocketsOptions): Http1Sockets {
  const { address, authority, tls, connectTimeoutMs, onUseless } = options;
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const sockets = new Set<Socket>();

  function watch(socket: Socket): void {
    readAfterFailedWrite(socket);
    const check = (cause: Error) => {
      if (socket.bytesRead === 0) onUseless(cause);
    };
    socket.once("end", () => check(new Error("the peer closed the connection")));
    socket.once("error", (error: Error & { code?: string }) => {
      // Those are this side's own doing.
      if (error.code?.startsWith("UND_ERR_") !== true) check(error);
    });
  }

  return {
    dial: () =>
      outsideOfCalls(() => {
        const { promise, resolve, reject } = Promise.withResolvers<Socket>();
        const socket = openSocket({ address, authority, tls, alpn: ["http/1.1"] });
        sockets.add(socket);
        const timer = setTimeout(() => {
          socket.destroy(new Error(`no connection within ${connectTimeoutMs} ms`));
        }, connectTimeoutMs).unref();
        socket.once(tls === undefined ? "connect" : "secureConnect", () => {
          clearTimeout(timer);
          watch(socket);
          resolve(socket);
        });
        // Stays: there must be a listener while the socket is not in use.
        socket.on("error", reject);
        socket.once("close", () => {
          clearTimeout(timer);
          sockets.delete(socket);
          reject(new Error("the peer closed the connection"));
        });
        return promise;
      }),
    size: () => sockets.size,
    destroy() {
      for (const socket of sockets) socket.destroy();
    },
    async closed() {
      await Promise.all([...sockets].map((socket) => new Promise<void>((resolve) => socket.once("close", resolve))));
    },
  };
}

/**
 * A peer may respond before it has read the whole request, and close. Then a write fails while the response waits to be
 * read; Node would destroy the socket and lose it. The reading side ends the connection instead, or a timer does.
 */
function readAfterFailedWrite(socket: Socket): void {
  let timer: NodeJS.Timeout | undefined;
  const tolerant = (callback: WriteCallback) => (error?: Error | null) => {
    if (error != null) timer ??= setTimeout(() => socket.destroy(error), LATE_RESPONSE_MS).unref();
    callback();
  };
  const { _write: write, _writev: writev } = socket;
  socket._write = (chunk, encoding, callback) => write.call(socket, chunk, encoding, tolerant(callback));
  socket._writev = (chunks, callback) => writev?.call(socket, chunks, tolerant(callback));
  socket.once("close", () => clearTimeout(timer));
}

type WriteCallback = (error?: Error | null) => void;
