import http from "node:http";
import type { Socket } from "node:net";
import { type RunningCall, RunningCalls } from "#shared/lifecycle";
import type { ServerConfig } from "../config.ts";
import { Http1Exchange } from "../http/http1-exchange.ts";
import { linger } from "../http/linger.ts";
import { limitAge } from "./connection-age.ts";
import type { ProtocolServer, Serve } from "./protocol-server.ts";

/**
 * How long an idle connection stays open: longer than load balancers and clients keep one (60 s or less), so that it is
 * they who close it, and never we while their next request is on its way.
 */
const KEEP_ALIVE_TIMEOUT_MS = 72_000;

export interface Http1Server extends ProtocolServer {
  /** Says `Connection: close` in every response from now on, so that clients have gone by themselves before the drain. */
  announce(): void;
}

export function createHttp1Server(config: ServerConfig, serve: Serve): Http1Server {
  const sockets = new Set<Socket>();
  /** Those that are to close when they are idle. */
  const leaving = new WeakSet<Socket>();
  const pending = new RunningCalls<PendingResponse>();
  let isAnnounced = false;
  let isDraining = false;

  const server = http.createServer(
    {
      maxHeaderSize: config.maxHeaderBytes,
      headersTimeout: config.firstByteTimeoutMs,
      // Node's 300 s would end streams of requests that may last as long as their callers want. Headers have their own
      // limit, and bodies that of their calls' deadlines.
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: Math.min(1_000, config.firstByteTimeoutMs),
    },
    (request, response) => {
      const { socket } = request;
      const entry = new PendingResponse(response);
      pending.add(entry);
      if (isAnnounced || leaving.has(socket)) response.shouldKeepAlive = false;
      // There is but one: what `once` wraps around a listener would be made for nothing with each call.
      response.on("close", () => {
        pending.delete(entry);
        if (!request.complete && !socket.destroyed) linger(request, closeIfLeaving);
        else closeIfLeaving();
      });
      serve(new Http1Exchange(request, response));

      // A response whose headers had gone out before has promised to keep the connection.
      function closeIfLeaving(): void {
        if (isDraining || leaving.has(socket)) socket.end();
      }
    },
  );
  // Node begins its checks of headersTimeout and requestTimeout at this event, which a server that is handed its
  // connections would never emit.
  server.emit("listening");

  function announce(): void {
    isAnnounced = true;
    for (const { response } of pending) response.shouldKeepAlive = false;
  }

  /** Lets a connection's responses tell its client to go. */
  function leave(socket: Socket): void {
    leaving.add(socket);
    let isIdle = true;
    for (const { response } of pending) {
      if (response.socket !== socket) continue;
      response.shouldKeepAlive = false;
      isIdle = false;
    }
    if (isIdle) socket.end();
  }

  return {
    accept(socket) {
      sockets.add(socket);
      const stop = limitAge({
        maxAgeMs: config.maxConnectionAgeMs,
        graceMs: config.maxConnectionAgeGraceMs,
        onAge: () => leave(socket),
        onGraceEnd: () => socket.destroy(),
      });
      socket.once("close", () => {
        stop();
        sockets.delete(socket);
      });
      server.emit("connection", socket);
    },
    announce,
    drain() {
      announce();
      isDraining = true;
      const busy = new Set([...pending].map(({ response }) => response.socket));
      for (const socket of sockets) if (!busy.has(socket)) socket.destroy();
    },
    destroy() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** A response that has not gone out yet. */
class PendingResponse implements RunningCall<PendingResponse> {
  readonly response: http.ServerResponse;
  previous: PendingResponse | undefined;
  next: PendingResponse | undefined;

  constructor(response: http.ServerResponse) {
    this.response = response;
  }
}
