import http2 from "node:http2";
import type { Socket } from "node:net";
import type { Logger } from "#shared/logging";
import { callInfoOf } from "./call-info.ts";
import type { ServerConfig } from "./config.ts";
import { goAwayGracefully } from "./go-away.ts";
import type { Handlers, ProtocolServer } from "./protocol-server.ts";
import { resetUnread } from "./reset-unread.ts";

/** How many seconds' worth of resets may come at once. */
const RESET_BURST_SECONDS = 10;

/**
 * Megabytes in a connection's buffers from which Node refuses new calls (ENHANCE_YOUR_CALM). Its own 10 are ten answers
 * of a megabyte at a time.
 */
const MAX_SESSION_MEMORY_MB = 256;

export function createHttp2Server(config: ServerConfig, logger: Logger, handlers: Handlers): ProtocolServer {
  const sessions = new Map<http2.ServerHttp2Session, Socket>();

  const server = http2.createServer({
    settings: {
      maxConcurrentStreams: config.maxConcurrentStreams,
      maxHeaderListSize: config.maxHeaderBytes,
    },
    streamResetBurst: config.maxResetsPerSecond * RESET_BURST_SECONDS,
    streamResetRate: config.maxResetsPerSecond,
    maxSessionMemory: MAX_SESSION_MEMORY_MB,
  });
  // Node's compatibility layer, which makes requests and responses of streams, comes with a server; this one has no
  // connections, and is handed the streams that nobody has taken.
  const compatibility = http2.createServer((request, response) => {
    handlers.request(request, response);
    // Who takes the short path answers no more than was read whole, or is handed on.
    if (callInfoOf(request).unary === undefined) resetUnread(response);
  });
  server.on("stream", (stream, headers, flags, rawHeaders) => {
    if (handlers.stream?.(stream, headers, rawHeaders) === true) return;
    compatibility.emit("stream", stream, headers, flags, rawHeaders);
  });
  server.on("sessionError", (err) => logger.debug({ err }, "HTTP/2 session failed"));

  function watch(session: http2.ServerHttp2Session, socket: Socket): void {
    sessions.set(session, socket);
    // A client's first frame is SETTINGS, whatever it means to do later.
    const timer = setTimeout(() => session.destroy(), config.firstByteTimeoutMs);
    session.once("remoteSettings", () => clearTimeout(timer));
    session.once("close", () => {
      clearTimeout(timer);
      sessions.delete(session);
    });
  }

  return {
    accept(socket) {
      // Emitted before `emit` returns.
      const onSession = (session: http2.ServerHttp2Session) => watch(session, socket);
      server.once("session", onSession);
      server.emit("connection", socket);
      server.off("session", onSession);
    },
    drain() {
      for (const [session, socket] of sessions) goAwayGracefully(session, socket);
    },
    destroy() {
      for (const session of sessions.keys()) session.destroy();
    },
  };
}
