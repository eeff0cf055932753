import tls from "node:tls";
import type { Logger } from "#shared/logging";
import { readCertificates, type TlsConfig } from "./certificates.ts";
import { createFileWatch } from "./file-watch.ts";

export interface ReloadingTlsServer {
  readonly server: tls.Server;
  /** Begins to look for changed files. */
  watch(): void;
  unwatch(): void;
}

/**
 * A TLS server that offers HTTP/2 and HTTP/1.1, asks for client certificates when the configuration has an authority for
 * them, and takes new certificates from changed files. Connections that are open stay as they are; sessions from before
 * a change are not resumed, so that each client is held against the new authority. Files that are no good are logged,
 * once, and the server goes on with what it has.
 *
 * @throws Error for files that are no good at the start
 */
export function createTlsServer(
  config: TlsConfig,
  options: Pick<tls.TlsOptions, "noDelay" | "keepAlive" | "keepAliveInitialDelay" | "handshakeTimeout">,
  logger: Pick<Logger, "info" | "error">,
): ReloadingTlsServer {
  const { certFile, keyFile, clientCaFile } = config;
  const files = [certFile, keyFile, ...(clientCaFile === undefined ? [] : [clientCaFile])];
  const watch = createFileWatch({ files, intervalMs: config.reloadIntervalMs, onChange: reload });
  const asksClients = clientCaFile !== undefined;
  const server = tls.createServer({
    ...options,
    ...readCertificates(config),
    ALPNProtocols: ["h2", "http/1.1"],
    requestCert: asksClients,
    rejectUnauthorized: asksClients,
  });

  function reload(): void {
    try {
      server.setSecureContext(readCertificates(config));
      logger.info({ files }, "certificates reloaded");
    } catch (err) {
      logger.error({ err, files }, "certificates have changed and are no good: going on with the old ones");
    }
  }

  return { server, watch: watch.start, unwatch: watch.stop };
}
