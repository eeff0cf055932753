import { once } from "node:events";
import * as http from "node:http";
import type { AddressInfo, Socket } from "node:net";

/** An HTTP server that can go and come back at the same port. */
export interface FakeRegistry {
  /** `http://127.0.0.1:port` */
  url(): string;
  /** How many clients are connected. */
  connections(): number;
  /** Ends it as a crash would. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

export type Respond = (url: URL, request: http.IncomingMessage, response: http.ServerResponse) => void | Promise<void>;

export async function startFakeRegistry(respond: Respond): Promise<FakeRegistry> {
  const sockets = new Set<Socket>();
  const server = http.createServer(async (request, response) => {
    try {
      await respond(new URL(request.url ?? "/", "http://fake"), request, response);
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  let port = 0;

  async function start(): Promise<void> {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    ({ port } = server.address() as AddressInfo);
  }

  await start();
  return {
    url: () => `http://127.0.0.1:${port}`,
    connections: () => sockets.size,
    start,
    async stop() {
      if (!server.listening) return;
      server.close();
      // Not reset: Node 24 never closes a socket that is reset while it is ending, and hangs when the process exits.
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
}

export async function readJson(request: http.IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString("utf8"));
}

export function answer(response: http.ServerResponse, body: unknown, headers: http.OutgoingHttpHeaders = {}): void {
  response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}
