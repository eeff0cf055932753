import { AsyncLocalStorage } from "node:async_hooks";
import type { Socket } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { describeError } from "#shared/errors";
import type { EndSignal } from "../policies/call-end.ts";
import { unsent } from "../policies/unsent.ts";
import type { ConnectBackoff } from "./connect-backoff.ts";
import { PeerAgent } from "./http1-agent.ts";
import { Http1Connection } from "./http1-connection.ts";
import { createHttp1Sockets } from "./http1-sockets.ts";
import type { Http1Subchannel, SubchannelState } from "./subchannel.ts";
import type { ClientTls } from "./tls.ts";
import type { SentUnary, UnaryExchange } from "./unary-stream.ts";
import { createWaiters } from "./waiters.ts";

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
  const { name, address, authority, tls, backoff, idleTimeoutMs } = options;
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  const sockets = createHttp1Sockets(options);
  /** Of unary calls, and those among them that wait for the next one, the last used one last. */
  const connections = new Set<Http1Connection>();
  const free: Http1Connection[] = [];
  const waiters = createWaiters<Http1Connection>();
  let state: SubchannelState = "idle";
  let lastError: Error | undefined;
  let probeTimer: NodeJS.Timeout | undefined;
  let streamsWithoutSocket = 0;

  function setState(next: SubchannelState, cause?: Error): void {
    state = next;
    outsideOfCalls(() => options.onChange(next, cause));
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
    sockets.dial().then((socket) => {
      // An agent takes a connection only together with a call.
      socket.destroy();
      connected();
    }, failed);
  }

  /** @throws ConnectError that is `unsent` */
  async function dialForCall(onRead?: (bytes: Buffer) => void): Promise<Socket> {
    try {
      const socket = await sockets.dial(onRead);
      connected();
      return socket;
    } catch (reason) {
      const error = reason instanceof Error ? reason : new Error(String(reason));
      // Of several that fail together only the first is news.
      if (state === "ready") failed(error);
      throw notSent(error);
    }
  }

  async function dialForStream(): Promise<Socket> {
    streamsWithoutSocket++;
    try {
      return await dialForCall();
    } finally {
      streamsWithoutSocket--;
    }
  }

  /** One connection more, for whoever has waited longest by then. */
  async function addConnection(): Promise<void> {
    const connection = new Http1Connection({ host: authority, idleTimeoutMs, onFree, onUnusable, notSent });
    try {
      const socket = await dialForCall((bytes) => connection.received(bytes));
      connection.attach(socket);
      if (!connection.isFree()) throw notSent(new Error("the peer closed the connection"));
      connections.add(connection);
      if (state === "shutdown") connection.close();
      else onFree(connection);
    } catch (error) {
      waiters.rejectFirst(() => error as Error);
    }
  }

  function onFree(connection: Http1Connection): void {
    if (!connection.isFree()) return;
    if (waiters.size() > 0) {
      waiters.resolveFirst(connection);
      return;
    }
    free.push(connection);
    connection.rest();
  }

  function onUnusable(connection: Http1Connection): void {
    connections.delete(connection);
    const index = free.indexOf(connection);
    if (index !== -1) free.splice(index, 1);
  }

  /** Those on which there is a call, or is about to be one. */
  function busyConnections(): number {
    return connections.size - free.length;
  }

  function sendOn(connection: Http1Connection, exchange: UnaryExchange): SentUnary {
    // It may have been lost since it was handed over.
    if (!connection.isFree()) throw notSent(new Error("the peer closed the connection"));
    try {
      return connection.send(exchange, busyConnections() > 1);
    } catch (error) {
      onFree(connection);
      throw error;
    }
  }

  async function sendLater(exchange: UnaryExchange, signal: EndSignal): Promise<SentUnary> {
    const waiting = waiters.add(signal);
    void outsideOfCalls(addConnection);
    return sendOn(await waiting, exchange);
  }

  function notSent(error: Error): ConnectError {
    return unsent("unsent", `${name} at ${address}: ${describeError(error)} before the call was sent`, error);
  }

  const agent = new PeerAgent(dialForStream, { keepAlive: true, timeout: idleTimeoutMs });
  // Node's client compares it with that of the URL.
  agent.protocol = tls === undefined ? "http:" : "https:";

  return {
    agent,
    authority,
    send(exchange, signal) {
      if (state === "shutdown") throw notSent(new Error("it is not called any more"));
      const connection = free.pop();
      return connection === undefined ? sendLater(exchange, signal) : sendOn(connection, exchange);
    },
    connect() {
      if (state === "idle") setState("ready");
    },
    state: () => state,
    lastError: () => lastError,
    isResponsive: () => true,
    checkAlive() {
      // A connection carries one call: whoever gave up on that has closed it.
    },
    openCalls: () => agent.openCalls() + streamsWithoutSocket + waiters.size() + busyConnections(),
    connections: () => sockets.size(),
    async close(timeoutMs) {
      clearTimeout(probeTimer);
      if (state !== "shutdown") setState("shutdown");
      // As over HTTP/2: what has not been sent goes another way, if there is one.
      waiters.rejectAll(() => notSent(new Error("it is not called any more")));
      agent.isClosing = true;
      const closed = sockets.closed();
      agent.closeIdle();
      for (const connection of [...connections]) connection.close();
      const timer = setTimeout(() => {
        sockets.destroy(new ConnectError("the transport pool was closed", Code.Canceled));
      }, timeoutMs);
      await closed;
      clearTimeout(timer);
    },
  };
}
