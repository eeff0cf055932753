import http2 from "node:http2";
import type { Socket } from "node:net";
import type { Logger } from "#shared/logging";
import type { ServerConfig } from "./config.ts";
import { goAwayGracefully } from "./go-away.ts";
import type { ProtocolServer, RequestHandler } from "./protocol-server.ts";

/**
 * How many calls a client may cancel: so many at once, and so many a second on and on. Beyond, its connection is closed
 * (CVE-2023-44487, rapid reset). Node's own limits, 1 000 and 33, are below what an honest client cancels that hedges.
 */
const RESET_BURST = 10_000;
const RESETS_PER_SECOND = 1_000;

export function createHttp2Server(config: ServerConfig, logger: Logger, handler: RequestHandler): ProtocolServer {
  const sessions = new Map<http2.ServerHttp2Session, Socket>();

  const server = http2.createServer(
    {
      settings: {
        maxConcurrentStreams: config.maxConcurrentStreams,
        maxHeaderListSize: config.maxHeaderBytes,
      },
      streamResetBurst: RESET_BURST,
      streamResetRate: RESETS_PER_SECOND,
    },
    handler,
  );
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
