import { once } from "node:events";
import net from "node:net";

export type Direction = "toServer" | "toClient";

/** TCP proxy with faults, for a server that is shared or has to keep running. */
export interface TcpProxy {
  /** On 127.0.0.1. */
  readonly port: number;
  /** How many clients are connected. */
  readonly connections: number;
  /** How many connections have passed so far, those that ended too. */
  readonly accepted: number;
  /** Resets every connection, at both ends. New ones pass. */
  cut(): void;
  /** Resets every connection, and new ones as soon as they are made, until `accept`. */
  refuse(): void;
  accept(): void;
  /**
   * From now on nothing passes, in both directions or in one more, and nothing is closed: an end does not see what
   * becomes of the other. New connections are made, and are as silent.
   */
  stall(direction?: Direction): void;
  /** What was held back passes, and all that follows; the ends see what they have missed. */
  resume(): void;
  /** Where connections go from now on; those that there are stay where they are. */
  pointTo(port: number): void;
  /** Resets every connection and ends. */
  close(): Promise<void>;
}

export interface TcpProxyTarget {
  /** Default: 127.0.0.1. */
  readonly host?: string;
  readonly port: number;
}

/** Starts a proxy on a free port. The caller closes it. */
export async function startTcpProxy({ host = "127.0.0.1", port }: TcpProxyTarget): Promise<TcpProxy> {
  const links = new Set<Link>();
  const stalled = new Set<Direction>();
  let target = port;
  let accepted = 0;
  let refusing = false;

  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    if (refusing) {
      client.on("error", () => {}).resetAndDestroy();
      return;
    }
    accepted += 1;
    const upstream = net.connect({ host, port: target, noDelay: true, allowHalfOpen: true });
    const link: Link = {
      client,
      upstream,
      flows: [
        startFlow(client, upstream, () => stalled.has("toServer")),
        startFlow(upstream, client, () => stalled.has("toClient")),
      ],
    };
    links.add(link);
    for (const socket of [client, upstream]) {
      socket.once("close", () => client.destroyed && upstream.destroyed && links.delete(link));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  function cut(): void {
    for (const { client, upstream } of links) {
      reset(client);
      reset(upstream);
    }
  }
  function update(): void {
    for (const { flows } of links) for (const flow of flows) flow.update();
  }

  return {
    port: (server.address() as net.AddressInfo).port,
    get connections() {
      return [...links].filter(({ client }) => !client.destroyed).length;
    },
    get accepted() {
      return accepted;
    },
    cut,
    refuse() {
      refusing = true;
      cut();
    },
    accept() {
      refusing = false;
    },
    stall(direction) {
      for (const one of direction === undefined ? (["toServer", "toClient"] as const) : [direction]) stalled.add(one);
      update();
    },
    resume() {
      stalled.clear();
      update();
    },
    pointTo(newPort) {
      target = newPort;
    },
    async close() {
      refusing = true;
      cut();
      if (!server.listening) return;
      server.close();
      await once(server, "close");
    },
  };
}

interface Link {
  readonly client: net.Socket;
  readonly upstream: net.Socket;
  readonly flows: readonly [Flow, Flow];
}

/** One direction of a link. */
interface Flow {
  /** Goes on or holds, as things are now. */
  update(): void;
}

function startFlow(from: net.Socket, to: net.Socket, isStalled: () => boolean): Flow {
  let broken = false;
  function update(): void {
    if (isStalled()) from.pause();
    else if (broken) reset(to);
    else if (to.writableNeedDrain) from.pause();
    else from.resume();
  }
  from.on("data", (chunk) => {
    if (to.writable && !to.write(chunk)) from.pause();
  });
  to.on("drain", update);
  // A socket that is paused tells of no end.
  from.on("end", () => to.end());
  from.on("error", () => {}); // "close" tells it too.
  from.on("close", (hadError) => {
    broken = hadError;
    update();
  });
  update();
  return { update };
}

function reset(socket: net.Socket): void {
  // One that is not connected yet would be reset only when it is; one that is just ending would never close (Node 24).
  const isEnding = socket.writableEnded && !socket.writableFinished;
  if (socket.connecting || isEnding) socket.destroy();
  else socket.resetAndDestroy();
}
