import { AsyncLocalStorage } from "node:async_hooks";
import type { ConnectError } from "@connectrpc/connect";
import type { Client, Dispatcher } from "undici";
import { describeError } from "#shared/errors";
import { notProcessed } from "../../call/not-processed-error.ts";
import type { ConnectBackoff } from "../connect-backoff.ts";
import type { Subchannel, SubchannelState } from "../subchannel.ts";
import type { ClientTls } from "../tls.ts";
import { createWaiters } from "../waiters.ts";
import { Http1Exchange, type Http1Exchanges } from "./http1-exchange.ts";
import { createHttp1Sockets } from "./http1-sockets.ts";

export interface Http1SubchannelOptions {
  /** The service's name, for messages. */
  readonly name: string;
  readonly address: string;
  readonly authority: string;
  readonly tls: ClientTls | undefined;
  readonly connectTimeoutMs: number;
  readonly backoff: ConnectBackoff;
  /** Each carries one call at a time; further calls wait. */
  readonly maxConnections: number;
  /** A connection that has had no calls for so long is closed. */
  readonly idleTimeoutMs: number;
  /** See `Http2SubchannelOptions`. */
  readonly onChange: (state: SubchannelState, cause?: Error) => void;
}

/**
 * Connections that carry one call at a time, and are kept for the next one. There is none before the first call: the peer
 * counts as reachable until a connection to it has failed, or was closed without a single byte. Then it is tried in the
 * background, as the backoff says, until one succeeds. A call whose connection could not be made fails as `unsent`.
 */
export function createHttp1Subchannel(options: Http1SubchannelOptions): Subchannel {
  const { name, address, authority, tls, backoff, idleTimeoutMs, maxConnections } = options;
  const outsideOfCalls = AsyncLocalStorage.snapshot();
  /** Calls, each with its connection once its request is sent. */
  const exchanges = new Map<Http1Exchange, Client | undefined>();
  /** Each has a connection, or makes one for its next request. The last used one last. */
  const free: Client[] = [];
  const waiters = createWaiters<void>();
  const sockets = createHttp1Sockets({ ...options, onUseless: failed });
  let createClient: (() => Client) | undefined;
  let state: SubchannelState = "idle";
  let lastError: Error | undefined;
  let probeTimer: NodeJS.Timeout | undefined;
  let isDestroyed = false;

  function setState(next: SubchannelState, cause?: Error): void {
    state = next;
    outsideOfCalls(() => options.onChange(next, cause));
  }

  function failed(error: Error): void {
    // Of several that fail together only the first is news.
    if (state === "ready") failedAgain(error);
  }

  function failedAgain(error: Error): void {
    if (state === "shutdown") return;
    lastError = error;
    clearTimeout(probeTimer);
    probeTimer = outsideOfCalls(() => setTimeout(probe, backoff.nextDelayMs()).unref());
    setState("transient_failure", error);
  }

  function probe(): void {
    sockets.dial().then((socket) => {
      // undici takes a connection only together with a call.
      socket.destroy();
      lastError = undefined;
      if (state === "transient_failure") setState("ready");
    }, failedAgain);
  }

  /** Loaded with the first call: most services speak HTTP/2 only. */
  async function loadUndici(): Promise<() => Client> {
    const { Client } = await import("undici");
    const origin = `${tls === undefined ? "http" : "https"}://${authority}`;
    createClient = () => {
      const client = new Client(origin, {
        connect: (_options, callback) => {
          sockets.dial().then(
            (socket) => callback(null, socket),
            (error) => {
              failed(error);
              callback(error, null);
            },
          );
        },
        pipelining: 1,
        allowH2: false,
        // The deadlines of calls bound both.
        headersTimeout: 0,
        bodyTimeout: 0,
        keepAliveTimeout: idleTimeoutMs,
        keepAliveMaxTimeout: idleTimeoutMs,
      });
      client.on("disconnect", () => forget(client));
      return client;
    };
    return createClient;
  }

  /** Its connection is gone. */
  function forget(client: Client): void {
    const index = free.indexOf(client);
    if (index === -1) return;
    free.splice(index, 1);
    void client.destroy();
  }

  function dispatch(request: Dispatcher.DispatchOptions, exchange: Http1Exchange, create: () => Client): void {
    if (!exchanges.has(exchange)) return;
    const client = free.pop() ?? create();
    exchanges.set(exchange, client);
    client.dispatch(request, exchange);
  }

  const connections: Http1Exchanges = {
    dispatch(request, exchange) {
      outsideOfCalls(() => {
        if (createClient !== undefined) dispatch(request, exchange, createClient);
        else {
          loadUndici().then(
            (create) => outsideOfCalls(dispatch, request, exchange, create),
            (cause) => exchange.fail({ kind: "protocol", isProcessed: true, cause }),
          );
        }
      });
    },
    onServed: () => backoff.reset(),
    onClose(exchange) {
      const client = exchanges.get(exchange);
      exchanges.delete(exchange);
      if (client !== undefined) {
        if (state === "shutdown") void client.close();
        else free.push(client);
      }
      if (waiters.size() > 0) waiters.resolveFirst();
    },
    isClosed: () => isDestroyed,
  };

  function begin(...[head, sink]: Parameters<Subchannel["open"]>): Http1Exchange {
    if (state === "shutdown") throw notSent(new Error("it is not called any more"));
    const exchange = new Http1Exchange(head, sink, connections);
    exchanges.set(exchange, undefined);
    return exchange;
  }

  async function beginLater(...[head, sink, signal]: Parameters<Subchannel["open"]>): Promise<Http1Exchange> {
    do {
      await waiters.add(signal);
    } while (exchanges.size >= maxConnections);
    return begin(head, sink, signal);
  }

  function notSent(error: Error): ConnectError {
    return notProcessed("unsent", `${name} at ${address}: ${describeError(error)} before the call was sent`, error);
  }

  return {
    open(head, sink, signal) {
      if (exchanges.size < maxConnections && waiters.size() === 0) return begin(head, sink, signal);
      return beginLater(head, sink, signal);
    },
    connect() {
      if (state === "idle") setState("ready");
    },
    state: () => state,
    lastError: () => lastError,
    isResponsive: () => true,
    checkAlive() {
      // A connection carries one call: giving that up has closed it.
    },
    openCalls: () => waiters.size() + exchanges.size,
    connections: () => sockets.size(),
    async close(timeoutMs) {
      clearTimeout(probeTimer);
      if (state !== "shutdown") setState("shutdown");
      // As over HTTP/2: what has not been sent goes elsewhere, if there is an elsewhere.
      waiters.rejectAll(() => notSent(new Error("it is not called any more")));
      const cause = new Error("it is not called any more");
      for (const exchange of exchanges.keys()) {
        if (exchange.isUnsent()) exchange.fail({ kind: "connect", isProcessed: false, cause });
      }
      for (const client of free.splice(0)) void client.destroy();
      const timer = setTimeout(() => {
        isDestroyed = true;
        sockets.destroy();
      }, timeoutMs);
      await sockets.closed();
      clearTimeout(timer);
    },
  };
}
