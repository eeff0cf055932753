import net, { type AddressInfo, type Socket } from "node:net";
import type { Logger } from "#shared/logging";
import type { ServerConfig } from "../config.ts";
import type { TlsConfig } from "./certificates.ts";
import { createHttp1Server } from "./http1-server.ts";
import { createHttp2Server } from "./http2-server.ts";
import type { Serve } from "./protocol-server.ts";
import { type Protocol, readProtocol } from "./read-protocol.ts";
import { createTlsServer } from "./tls-server.ts";

/** One port for HTTP/1.1 and HTTP/2, with or without TLS. */
export interface Listener {
  readonly server: net.Server;
  /** Listens. @throws the bind error, such as EADDRINUSE */
  listen(): Promise<AddressInfo>;
  /** Tells HTTP/1.1 clients, in each answer, to send the next request elsewhere; serves all the same. */
  announce(): void;
  /**
   * Takes no new connection, tells clients to go (GOAWAY, `Connection: close`), closes what is idle and lets calls in
   * flight finish. Resolves once the last connection that could carry a call has closed.
   */
  drain(): Promise<void>;
  /** Closes what is left, at once. */
  destroy(): void;
}

/** A peer that is gone without a word shows after this long and some probes, by TCP's own means. */
const TCP_KEEP_ALIVE_MS = 60_000;

/** A full server says so no more often than this. */
const FULL_LOG_INTERVAL_MS = 10_000;

/**
 * In cleartext the first bytes of a connection tell HTTP/2 with prior knowledge from HTTP/1.1; with TLS, ALPN does. In
 * both cases an HTTP server that does not listen itself is handed the connection.
 */
export function createListener(config: ServerConfig, logger: Logger, serveExchange: Serve): Listener {
  const servers = {
    h1: createHttp1Server(config, serveExchange),
    h2: createHttp2Server(config, logger, serveExchange),
  };
  /** Every connection. */
  const accepted = new Set<Socket>();
  /** Those that have come as far as speaking HTTP. */
  const served = new Set<Socket>();
  const drained = Promise.withResolvers<void>();
  let isDraining = false;

  function accept(socket: Socket): void {
    accepted.add(socket);
    socket.on("error", (err) => logger.debug({ err }, "connection failed"));
    socket.once("close", () => accepted.delete(socket));
  }

  function serve(socket: Socket, protocol: Protocol): void {
    if (isDraining) {
      socket.destroy();
      return;
    }
    served.add(socket);
    socket.once("close", () => {
      served.delete(socket);
      if (isDraining && served.size === 0) drained.resolve();
    });
    servers[protocol].accept(socket);
  }

  let watchCertificates = () => {};
  let unwatchCertificates = () => {};
  const server = config.tls === undefined ? cleartextServer() : tlsServer(config.tls);
  server.maxConnections = config.maxConnections;
  let saidFullAtMs = Number.NEGATIVE_INFINITY;
  server.on("drop", () => {
    if (performance.now() - saidFullAtMs < FULL_LOG_INTERVAL_MS) return;
    saidFullAtMs = performance.now();
    logger.warn({ max_connections: config.maxConnections }, "refusing connections: there are too many");
  });

  function socketOptions() {
    return { noDelay: true, keepAlive: true, keepAliveInitialDelay: TCP_KEEP_ALIVE_MS };
  }

  function cleartextServer(): net.Server {
    return net.createServer(socketOptions(), (socket) => {
      accept(socket);
      readProtocol(socket, config.firstByteTimeoutMs, (protocol) => serve(socket, protocol));
    });
  }

  function tlsServer(tlsConfig: TlsConfig): net.Server {
    const options = { ...socketOptions(), handshakeTimeout: config.firstByteTimeoutMs };
    const { server: secure, watch, unwatch } = createTlsServer(tlsConfig, options, logger);
    watchCertificates = watch;
    unwatchCertificates = unwatch;
    secure.on("connection", accept);
    secure.on("tlsClientError", (err, socket) => {
      // Why a client's certificate was not taken stands here, and the error says "closed".
      const { authorizationError } = socket;
      logger.debug({ err, ...(authorizationError && { authorization: authorizationError }) }, "TLS handshake failed");
      // Node leaves one that has timed out open.
      socket.destroy();
    });
    secure.on("secureConnection", (socket) => {
      socket.on("error", (err) => logger.debug({ err }, "connection failed"));
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
      watchCertificates();
      server.on("error", (err) => logger.error({ err }, "cannot accept connections"));
      return server.address() as AddressInfo;
    },
    announce() {
      servers.h1.announce();
    },
    drain() {
      if (!isDraining) {
        isDraining = true;
        unwatchCertificates();
        server.close();
        servers.h1.drain();
        servers.h2.drain();
        if (served.size === 0) drained.resolve();
      }
      return drained.promise;
    },
    destroy() {
      unwatchCertificates();
      server.close();
      servers.h1.destroy();
      servers.h2.destroy();
      for (const socket of accepted) socket.destroy();
    },
  };
}
