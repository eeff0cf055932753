import { AsyncLocalStorage } from "node:async_hooks";
import { Agent, type AgentOptions, type ClientRequestArgs } from "node:http";
import type { Duplex } from "node:stream";
import type { ConnectBackoff } from "./connect-backoff.ts";
import { openSocket } from "./socket.ts";
import type { Http1Subchannel, SubchannelState } from "./subchannel.ts";
import type { ClientTls } from "./tls.ts";

export interface Http1SubchannelOptions {
  readonly address: string;
  readonly authority: string;
  readonly tls: ClientTls | undefined;
  readonly connectTimeoutMs: number;
  readonly backoff: ConnectBackoff;
  /** A connection that has had no calls for so long is closed. */
  readonly idleTimeoutMs: number;
  /** See `SubchannelOptions`. */
  readonly onChange: (state: SubchannelState, cause?: Error) => void;
}

/**
 * Connections that carry one call at a time, and are kept for the next one. There is none before the first call: the
 * peer counts as reachable until a connection to it has failed, and again when the backoff has passed.
 */
export function createHttp1Subchannel(options: Http1SubchannelOptions): Http1Subchannel {
  const { address, authority, tls, backoff, connectTimeoutMs } = options;
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const sockets = new Set<Duplex>();
  let state: SubchannelState = "idle";
  let lastError: Error | undefined;
  let backoffTimer: NodeJS.Timeout | undefined;

  function setState(next: SubchannelState, cause?: Error): void {
    state = next;
    outsideOfCalls(() => options.onChange(next, cause));
  }

  function open(): Duplex {
    return outsideOfCalls(() => {
      const socket = openSocket({ address, authority, tls, alpn: ["http/1.1"] });
      sockets.add(socket);
      let isConnected = false;
      const timer = setTimeout(() => {
        socket.destroy(new Error(`no connection within ${connectTimeoutMs} ms`));
      }, connectTimeoutMs).unref();
      socket.once(tls === undefined ? "connect" : "secureConnect", () => {
        isConnected = true;
        clearTimeout(timer);
        connected();
      });
      socket.once("error", (error) => isConnected || failed(error));
      socket.once("close", () => {
        clearTimeout(timer);
        sockets.delete(socket);
      });
      return socket;
    });
  }

  function connected(): void {
    backoff.reset();
    lastError = undefined;
    clearTimeout(backoffTimer);
    if (state === "transient_failure") setState("ready");
  }

  function failed(error: Error): void {
    lastError = error;
    if (state !== "ready") return;
    backoffTimer = setTimeout(() => setState("ready"), backoff.nextDelayMs()).unref();
    setState("transient_failure", error);
  }

  const agent = new PeerAgent(open, { keepAlive: true, timeout: options.idleTimeoutMs });

  return {
    agent,
    connect() {
      if (state === "idle") setState("ready");
    },
    state: () => state,
    lastError: () => lastError,
    isResponsive: () => true,
    checkAlive() {
      // A connection carries one call: whoever gave up on that has closed it.
    },
    openCalls: () => countOf(agent.sockets),
    connections: () => sockets.size,
    async close(timeoutMs) {
      clearTimeout(backoffTimer);
      if (state !== "shutdown") setState("shutdown");
      agent.isClosing = true;
      for (const free of Object.values(agent.freeSockets)) for (const socket of free ?? []) socket.destroy();
      const closed = [...sockets].map(
        (socket) => new Promise<void>((resolve) => socket.once("close", () => resolve())),
      );
      const timer = setTimeout(() => {
        for (const socket of sockets) socket.destroy(new Error("the transport pool was closed"));
      }, timeoutMs);
      await Promise.all(closed);
      clearTimeout(timer);
    },
  };
}

/** Connects to one peer, whatever the request's URL says: that names the service. */
class PeerAgent extends Agent {
  /** No connection is kept for a next call. */
  isClosing = false;
  readonly #open: () => Duplex;

  constructor(open: () => Duplex, options: AgentOptions) {
    super(options);
    this.#open = open;
  }

  override createConnection(_options: ClientRequestArgs): Duplex {
    return this.#open();
  }

  override keepSocketAlive(socket: Duplex): boolean {
    // Node's documentation says boolean, its types say void.
    const canKeep: unknown = super.keepSocketAlive(socket);
    return canKeep === true && !this.isClosing;
  }
}

function countOf(sockets: NodeJS.ReadOnlyDict<readonly unknown[]>): number {
  return Object.values(sockets).reduce((sum, list) => sum + (list?.length ?? 0), 0);
}
