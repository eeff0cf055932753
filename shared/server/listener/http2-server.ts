import http2 from "node:http2";
import type { Logger } from "#shared/logging";
import type { ServerConfig } from "../config.ts";
import { Http2Connection } from "../http/http2-connection.ts";
import { Http2Exchange } from "../http/http2-exchange.ts";
import { limitAge } from "./connection-age.ts";
import { goAwayGracefully } from "./go-away.ts";
import type { ProtocolServer, Serve } from "./protocol-server.ts";

/** How many seconds' worth of resets may come at once. */
const RESET_BURST_SECONDS = 10;
/** Fields of a request's head. Node's own default. */
const MAX_HEADER_PAIRS = 128;
/** Of a response's head or trailers. What a peer accepts is less, and is heeded before. */
const MAX_SENT_HEADER_BYTES = 1024 * 1024;

export function createHttp2Server(config: ServerConfig, logger: Logger, serve: Serve): ProtocolServer {
  const connections = new Map<http2.ServerHttp2Session, Http2Connection>();

  const server = http2.createServer({
    settings: {
      maxConcurrentStreams: config.maxConcurrentStreams,
      maxHeaderListSize: config.maxHeaderBytes,
      initialWindowSize: config.streamWindowBytes,
    },
    streamResetBurst: config.maxResetsPerSecond * RESET_BURST_SECONDS,
    streamResetRate: config.maxResetsPerSecond,
    maxHeaderListPairs: MAX_HEADER_PAIRS,
    maxSendHeaderBlockLength: MAX_SENT_HEADER_BYTES,
    // Node counts the bytes of streams that were given up for ever, and then refuses every call of the connection. What a
    // slow reader may hold has a limit of our own: `max_unsent_bytes`.
    maxSessionMemory: Number.MAX_SAFE_INTEGER,
  });
  server.on("stream", (stream, headers, flags, rawHeaders) => {
    const connection = stream.session && connections.get(stream.session as http2.ServerHttp2Session);
    if (connection !== undefined) serve(new Http2Exchange(stream, headers, connection, flags, rawHeaders));
    else stream.destroy();
  });
  server.on("sessionError", (err) => logger.debug({ err }, "HTTP/2 session failed"));

  function watch(connection: Http2Connection): void {
    const { session } = connection;
    connections.set(session, connection);
    session.setLocalWindowSize(config.connectionWindowBytes);
    // A client's first frame is SETTINGS, whatever it means to do later.
    const timer = setTimeout(() => session.destroy(), config.firstByteTimeoutMs);
    const stopAging = limitAge({
      maxAgeMs: config.maxConnectionAgeMs,
      graceMs: config.maxConnectionAgeGraceMs,
      onAge: () => goAwayGracefully(connection),
      onGraceEnd: () => session.destroy(),
    });
    session.once("remoteSettings", () => clearTimeout(timer));
    session.once("close", () => {
      clearTimeout(timer);
      stopAging();
      connections.delete(session);
    });
  }

  return {
    accept(socket) {
      // Emitted before `emit` returns.
      const onSession = (session: http2.ServerHttp2Session) =>
        watch(new Http2Connection(session, socket, config.maxUnsentBytes));
      server.once("session", onSession);
      server.emit("connection", socket);
      server.off("session", onSession);
    },
    drain() {
      for (const connection of connections.values()) goAwayGracefully(connection);
    },
    destroy() {
      for (const { session, socket } of connections.values()) {
        session.destroy();
        socket.destroy();
      }
    },
  };
}
