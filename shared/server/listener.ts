import { readFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import net, { type AddressInfo, type Socket } from "node:net";
import tls from "node:tls";
import type { Logger } from "#shared/logging";
import type { ServerConfig } from "./config.ts";
import { goAwayGracefully } from "./go-away.ts";
import { type Protocol, readProtocol } from "./read-protocol.ts";

export type RequestHandler = (
  request: http.IncomingMessage | http2.Http2ServerRequest,
  response: http.ServerResponse | http2.Http2ServerResponse,
) => void;

/** One port for HTTP/1.1 and HTTP/2, with or without TLS. */
export interface Listener {
  readonly server: net.Server;
  /** Listens. @throws the bind error, such as EADDRINUSE */
  listen(): Promise<AddressInfo>;
  /**
   * Takes no new connection, tells clients to go (GOAWAY, `Connection: close`), closes what is idle and lets calls in
   * flight finish. Resolves once the last connection has closed.
   */
  drain(): Promise<void>;
  /** Closes what is left, at once. */
  destroy(): void;
}

/**
 * In cleartext the first bytes of a connection tell HTTP/2 with prior knowledge from HTTP/1.1; with TLS, ALPN does. In
 * both cases an HTTP server that does not listen itself is handed the connection.
 */
export function createListener(config: ServerConfig, logger: Logger, handler: RequestHandler): Listener {
  const connections = new Map<Socket, Protocol | undefined>();
  const sessions = new Set<http2.Http2Session>();
  const h1Responses = new Set<http.ServerResponse>();
  const drained = Promise.withResolvers<void>();
  let isDraining = false;

  const h1 = http.createServer(
    {
      maxHeaderSize: config.maxHeaderBytes,
      headersTimeout: config.firstByteTimeoutMs,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      h1Responses.add(response);
      if (isDraining) response.shouldKeepAlive = false;
      response.once("close", () => {
        h1Responses.delete(response);
        // A response whose headers had gone out before the drain has promised to keep the connection.
        if (isDraining) request.socket.end();
      });
      handler(request, response);
    },
  );
  // Node begins its checks of headersTimeout and requestTimeout at this event, which a server that is handed its
  // connections would never emit.
  h1.emit("listening");

  const h2 = http2.createServer(
    {
      settings: {
        maxConcurrentStreams: config.maxConcurrentStreams,
        maxHeaderListSize: config.maxHeaderBytes,
      },
    },
    handler,
  );
  h2.on("session", (session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });
  h2.on("sessionError", (err) => logger.debug({ err }, "HTTP/2 session failed"));

  function track(socket: Socket): void {
    connections.set(socket, undefined);
    socket.on("error", (err) => logger.debug({ err }, "connection failed"));
    socket.once("close", () => {
      connections.delete(socket);
      if (isDraining && connections.size === 0) drained.resolve();
    });
  }

  function serve(socket: Socket, protocol: Protocol): void {
    if (isDraining) {
      socket.destroy();
      return;
    }
    connections.set(socket, protocol);
    (protocol === "h2" ? h2 : h1).emit("connection", socket);
  }

  const server = config.tls === undefined ? cleartextServer() : tlsServer(config.tls);
  server.maxConnections = config.maxConnections;

  function cleartextServer(): net.Server {
    return net.createServer({ noDelay: true }, (socket) => {
      track(socket);
      readProtocol(socket, config.firstByteTimeoutMs, (protocol) => serve(socket, protocol));
    });
  }

  function tlsServer({ certFile, keyFile }: NonNullable<ServerConfig["tls"]>): net.Server {
    const secure = tls.createServer({
      cert: readFileSync(certFile),
      key: readFileSync(keyFile),
      ALPNProtocols: ["h2", "http/1.1"],
      handshakeTimeout: config.firstByteTimeoutMs,
      noDelay: true,
    });
    secure.on("tlsClientError", (err) => logger.debug({ err }, "TLS handshake failed"));
    secure.on("secureConnection", (socket) => {
      track(socket);
      serve(socket, socket.alpnProtocol === "h2" ? "h2" : "h1");
    });
    return secure;
  }

  return {
    server,
    async listen() {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      server.once("error", reject);
      server.listen({ port: config.port, host: config.host }, resolve);
      await promise;
      server.off("error", reject);
      server.on("error", (err) => logger.error({ err }, "cannot accept connections"));
      return server.address() as AddressInfo;
    },
    drain() {
      if (!isDraining) {
        isDraining = true;
        server.close();
        for (const session of sessions) goAwayGracefully(session);
        for (const response of h1Responses) response.shouldKeepAlive = false;
        const busy = new Set([...h1Responses].map((response) => response.socket));
        for (const [socket, protocol] of connections) {
          if (protocol !== "h2" && !busy.has(socket)) socket.destroy();
        }
        if (connections.size === 0) drained.resolve();
      }
      return drained.promise;
    },
    destroy() {
      server.close();
      h1.close();
      for (const session of sessions) session.destroy();
      for (const socket of connections.keys()) socket.destroy();
    },
  };
}
