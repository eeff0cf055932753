import type { Variant, Wire } from "../variants.ts";

/** One way to make calls and to answer them. */
export interface Peer {
  /** Listens on a free port of 127.0.0.1, and says which. It ends with its process. */
  startServer(wire: Wire): Promise<number>;
  createClient(port: number, wire: Wire): PeerClient;
}

export interface PeerClient {
  /** user.v1.UserService/SayHello. Resolves to the answer's text. */
  sayHello(name: string): Promise<string>;
  /** order.v1.OrderService/WatchOrder. Resolves to the number of messages that came. */
  watchOrder(id: string): Promise<number>;
}

/** Loads nothing but what this peer needs, so that its memory is its own. */
export async function loadPeer(name: Variant["peer"]): Promise<Peer> {
  switch (name) {
    case "raw":
      return (await import("./raw.ts")).raw;
    case "raw-full":
      return (await import("./raw.ts")).rawFull;
    case "grpc-js":
      return (await import("./grpc-js.ts")).grpcJs;
    case "grpc-js-full":
      return (await import("./grpc-js.ts")).grpcJsFull;
    case "stock":
      return (await import("./stock.ts")).stock;
    case "meridian-bare":
      return (await import("./meridian.ts")).meridianBare;
    case "meridian":
      return (await import("./meridian.ts")).meridian;
  }
}
