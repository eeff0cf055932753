import { once } from "node:events";
import net from "node:net";

export interface Link {
  /** On 127.0.0.1. */
  readonly port: number;
  /** How many clients are connected. */
  readonly connections: number;
  /** Resets every connection. New ones pass. */
  cut(): void;
  close(): Promise<void>;
}

/**
 * A way to a server of this machine on which each answer takes `delayMs` longer. For programs, too, that must not load
 * `#shared/testing` and by that node:test, which makes each promise several times as dear. Whoever starts it closes it.
 */
export async function startLink(target: number, delayMs = 0): Promise<Link> {
  const clients = new Set<net.Socket>();
  const server = net.createServer({ noDelay: true }, (client) => {
    const upstream = net.connect({ port: target, host: "127.0.0.1", noDelay: true });
    clients.add(client);
    for (const socket of [client, upstream]) {
      socket.on("error", () => {}); // "close" tells it too.
      socket.on("close", () => {
        clients.delete(client);
        client.destroy();
        upstream.destroy();
      });
    }
    const answer = (chunk: Buffer) => void (client.destroyed || client.write(chunk));
    client.on("data", (chunk) => upstream.write(chunk));
    // Timers of the same length fire in the order in which they were set.
    upstream.on("data", (chunk) => (delayMs === 0 ? answer(chunk) : setTimeout(answer, delayMs, chunk)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  function cut(): void {
    for (const client of clients) client.resetAndDestroy();
  }
  return {
    port: (server.address() as net.AddressInfo).port,
    get connections() {
      return clients.size;
    },
    cut,
    async close() {
      server.close();
      cut();
      if (server.listening) await once(server, "close");
    },
  };
}
