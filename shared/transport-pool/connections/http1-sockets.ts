import { AsyncLocalStorage } from "node:async_hooks";
import type { Socket } from "node:net";
import { openSocket } from "./socket.ts";
import type { ClientTls } from "./tls.ts";

export interface Http1SocketsOptions {
  readonly address: string;
  readonly authority: string;
  readonly tls: ClientTls | undefined;
  readonly connectTimeoutMs: number;
}

/** The sockets to one peer. */
export interface Http1Sockets {
  /** Resolves when the peer is connected to. */
  dial(onRead?: (bytes: Buffer) => void): Promise<Socket>;
  /** Those that connect among them. */
  size(): number;
  destroy(error: Error): void;
  /** Resolves when those of now are closed. */
  closed(): Promise<void>;
}

export function createHttp1Sockets({ address, authority, tls, connectTimeoutMs }: Http1SocketsOptions): Http1Sockets {
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const sockets = new Set<Socket>();

  return {
    dial: (onRead) =>
      outsideOfCalls(() => {
        const { promise, resolve, reject } = Promise.withResolvers<Socket>();
        const socket = openSocket({ address, authority, tls, alpn: ["http/1.1"], onRead });
        sockets.add(socket);
        const timer = setTimeout(() => {
          socket.destroy(new Error(`no connection within ${connectTimeoutMs} ms`));
        }, connectTimeoutMs).unref();
        socket.once(tls === undefined ? "connect" : "secureConnect", () => {
          clearTimeout(timer);
          resolve(socket);
        });
        // Stays: while nobody uses the socket there must be a listener.
        socket.on("error", reject);
        socket.once("close", () => {
          clearTimeout(timer);
          sockets.delete(socket);
          reject(new Error("the peer closed the connection"));
        });
        return promise;
      }),
    size: () => sockets.size,
    destroy(error) {
      for (const socket of sockets) socket.destroy(error);
    },
    async closed() {
      await Promise.all([...sockets].map((socket) => new Promise<void>((resolve) => socket.once("close", resolve))));
    },
  };
}
