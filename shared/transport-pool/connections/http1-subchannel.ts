import { AsyncLocalStorage } from "node:async_hooks";
import { Agent, type AgentOptions, type ClientRequestArgs } from "node:http";
import type { Duplex } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import { describeError } from "#shared/errors";
import { unsent } from "../policies/unsent.ts";
import type { ConnectBackoff } from "./connect-backoff.ts";
import { openSocket } from "./socket.ts";
import type { Http1Subchannel, SubchannelState } from "./subchannel.ts";
import type { ClientTls } from "./tls.ts";

export interface Http1SubchannelOptions {
  /** The service's name, for messages. */
  readonly name: string;
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
 * peer counts as reachable until a connection to it has failed. Then it is tried in the background, as the backoff
 * says, until one succeeds. A call whose connection could not be made fails with an `unsent` error.
 */
export function createHttp1Subchannel(options: Http1SubchannelOptions): Http1Subchannel {
  const { name, address, authority, tls, backoff, connectTimeoutMs } = options;
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const sockets = new Set<Duplex>();
  let state: SubchannelState = "idle";
  let lastError: Error | undefined;
  let probeTimer: NodeJS.Timeout | undefined;
  let callsWithoutSocket = 0;

  function setState(next: SubchannelState, cause?: Error): void {
    state = next;
    outsideOfCalls(() => options.onChange(next, cause));
  }

  /** Resolves when the peer is connected to. */
  function dial(): Promise<Duplex> {
    return outsideOfCalls(() => {
      const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
      const socket = openSocket({ address, authority, tls, alpn: ["http/1.1"] });
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
    });
  }

  function connected(): void {
    backoff.reset();
    lastError = undefined;
    clearTimeout(probeTimer);
    if (state === "transient_failure") setState("ready");
  }

  function failed(error: Error): void {
    if (state === "shutdown") return;
    lastError = error;
    clearTimeout(probeTimer);
    probeTimer = outsideOfCalls(() => setTimeout(probe, backoff.nextDelayMs()).unref());
    setState("transient_failure", error);
  }

  function probe(): void {
    dial().then((socket) => {
      // An agent takes a connection only together with a call.
      socket.destroy();
      connected();
    }, failed);
  }

  async function dialForCall(): Promise<Duplex> {
    callsWithoutSocket++;
    try {
      const socket = await dial();
      connected();
      return socket;
    } catch (reason) {
      const error = reason instanceof Error ? reason : new Error(String(reason));
      // Of several that fail together only the first is news.
      if (state === "ready") failed(error);
      const message = `${name} at ${address}: ${describeError(error)} before the call was sent`;
      throw unsent("unsent", message, error);
    } finally {
      callsWithoutSocket--;
    }
  }

  const agent = new PeerAgent(dialForCall, { keepAlive: true, timeout: options.idleTimeoutMs });
  // Node's client compares it with that of the URL.
  agent.protocol = tls === undefined ? "http:" : "https:";

  return {
    agent,
    authority,
    connect() {
      if (state === "idle") setState("ready");
    },
    state: () => state,
    lastError: () => lastError,
    isResponsive: () => true,
    checkAlive() {
      // A connection carries one call: whoever gave up on that has closed it.
    },
    openCalls: () => countOf(agent.sockets) + callsWithoutSocket,
    connections: () => sockets.size,
    async close(timeoutMs) {
      clearTimeout(probeTimer);
      if (state !== "shutdown") setState("shutdown");
      agent.isClosing = true;
      for (const free of Object.values(agent.freeSockets)) for (const socket of free ?? []) socket.destroy();
      const closed = [...sockets].map(
        (socket) => new Promise<void>((resolve) => socket.once("close", () => resolve())),
      );
      const timer = setTimeout(() => {
        for (const socket of sockets) socket.destroy(new ConnectError("the transport pool was closed", Code.Canceled));
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
}

type Connected = (error: Error | null, socket: Duplex) => void;

function countOf(sockets: NodeJS.ReadOnlyDict<readonly unknown[]>): number {
  return Object.values(sockets).reduce((sum, list) => sum + (list?.length ?? 0), 0);
}
