import http from "node:http";
import type { Socket } from "node:net";
import { type RunningCall, RunningCalls } from "#shared/lifecycle";
import type { ServerConfig } from "./config.ts";
import type { ProtocolServer, RequestHandler } from "./protocol-server.ts";

/**
 * How long an idle connection stays open: longer than load balancers and clients keep one (60 s or less), so that it is
 * they who close it, and never we while their next request is on its way.
 */
const KEEP_ALIVE_TIMEOUT_MS = 72_000;

export interface Http1Server extends ProtocolServer {
  /** Says `Connection: close` in every answer from now on, so that clients have gone by themselves before the drain. */
  announce(): void;
}

export function createHttp1Server(config: ServerConfig, handler: RequestHandler): Http1Server {
  const sockets = new Set<Socket>();
  const answers = new RunningCalls<Answer>();
  let isAnnounced = false;
  let isDraining = false;

  const server = http.createServer(
    {
      maxHeaderSize: config.maxHeaderBytes,
      headersTimeout: config.firstByteTimeoutMs,
      // Node's 300 s would end streams of requests that may last as long as their callers want. Headers have their own
      // limit, and what calls send has that of their deadlines (readBody).
      requestTimeout: 0,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: Math.min(1_000, config.firstByteTimeoutMs),
    },
    (request, response) => {
      const answer = new Answer(response);
      answers.add(answer);
      if (isAnnounced) response.shouldKeepAlive = false;
      // There is but one: what `once` wraps around a listener would be made for nothing with each call.
      response.on("close", () => {
        answers.delete(answer);
        // A response whose headers had gone out before the drain has promised to keep the connection.
        if (isDraining) request.socket.end();
      });
      handler(request, response);
    },
  );
  // Node begins its checks of headersTimeout and requestTimeout at this event, which a server that is handed its
  // connections would never emit.
  server.emit("listening");

  function announce(): void {
    isAnnounced = true;
    for (const { response } of answers) response.shouldKeepAlive = false;
  }

  return {
    accept(socket) {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      server.emit("connection", socket);
    },
    announce,
    drain() {
      announce();
      isDraining = true;
      const busy = new Set([...answers].map(({ response }) => response.socket));
      for (const socket of sockets) if (!busy.has(socket)) socket.destroy();
    },
    destroy() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** One that has not gone out yet. */
class Answer implements RunningCall<Answer> {
  readonly response: http.ServerResponse;
  previous: Answer | undefined;
  next: Answer | undefined;

  constructor(response: http.ServerResponse) {
    this.response = response;
  }
}
