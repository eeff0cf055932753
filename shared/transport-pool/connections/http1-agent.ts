import { Agent, type AgentOptions, type ClientRequestArgs } from "node:http";
import type { Duplex } from "node:stream";

/** Node's agent for one peer, whatever the request's URL says: that names the service. */
export class PeerAgent extends Agent {
  /** No connection is kept for a next call. */
  isClosing = false;
  /** Of Node's agents, though its types do not know it. */
  declare protocol: string;
  readonly #dial: () => Promise<Duplex>;

  constructor(dial: () => Promise<Duplex>, options: AgentOptions) {
    super(options);
    this.#dial = dial;
  }

  override createConnection(_options: ClientRequestArgs, callback: Connected): undefined {
    // Node's types want a socket beside an error; its code has none.
    const failed = callback as (error: Error) => void;
    this.#dial().then((socket) => callback(null, socket), failed);
  }

  override keepSocketAlive(socket: Duplex): boolean {
    // Node's documentation says boolean, its types say void.
    const canKeep: unknown = super.keepSocketAlive(socket);
    return canKeep === true && !this.isClosing;
  }

  /** Requests that have a connection. */
  openCalls(): number {
    return Object.values(this.sockets).reduce((sum, list) => sum + (list?.length ?? 0), 0);
  }

  closeIdle(): void {
    for (const free of Object.values(this.freeSockets)) for (const socket of free ?? []) socket.destroy();
  }
}

type Connected = (error: Error | null, socket: Duplex) => void;
