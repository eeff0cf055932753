import { once } from "node:events";
import net from "node:net";
import { pipeline } from "node:stream";

/** What stands before the replicas of a service: one address, whose connections go to one of them. */
export interface TcpFront {
  readonly port: number;
  /** Where connections go from now on; those that there are stay where they are. */
  pointTo(port: number): void;
  close(): Promise<void>;
}

export async function startTcpFront(): Promise<TcpFront> {
  const sockets = new Set<net.Socket>();
  let target: number | undefined;
  const server = net.createServer({ noDelay: true }, (client) => {
    const replica = target === undefined ? undefined : net.connect({ port: target, host: "127.0.0.1", noDelay: true });
    for (const socket of [client, replica]) {
      if (socket === undefined) continue;
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    }
    if (replica === undefined) {
      client.destroy();
      return;
    }
    pipeline(client, replica, client, () => {});
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as net.AddressInfo).port,
    pointTo(port) {
      target = port;
    },
    async close() {
      server.close();
      for (const socket of sockets) socket.destroy();
      if (server.listening) await once(server, "close");
    },
  };
}
