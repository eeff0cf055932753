import { readFileSync, statSync } from "node:fs";
import { createSecureContext, type SecureContext } from "node:tls";
import type { TlsConfig } from "../config/tls.ts";

/** What new connections are secured with. */
export interface ClientTls {
  /** From the files as they are now. @throws Error when a changed file cannot be used and there was none before */
  secureContext(): SecureContext;
  /** The name that the peer's certificate must have, when it is not the one that is called. */
  readonly serverName: string | undefined;
}

/**
 * Certificates are replaced while services run: each new connection uses the files as they are by then. When the new
 * ones cannot be used (half written, key and certificate of different pairs) the last good ones stay.
 *
 * @param onError what was wrong with changed files; once for each change
 */
export function createClientTls(config: TlsConfig, onError: (error: Error) => void): ClientTls {
  const files = [config.caFile, config.certFile, config.keyFile].filter((file) => file !== undefined);
  let context = makeContext(config);
  let version = versionOf(files);

  return {
    serverName: config.serverName,
    secureContext() {
      try {
        const latest = versionOf(files);
        if (latest !== version) {
          version = latest;
          context = makeContext(config);
        }
      } catch (error) {
        onError(error instanceof Error ? error : new Error(String(error)));
      }
      return context;
    },
  };
}

function makeContext({ caFile, certFile, keyFile }: TlsConfig): SecureContext {
  return createSecureContext({
    ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
    ...(certFile === undefined ? {} : { cert: readFileSync(certFile) }),
    ...(keyFile === undefined ? {} : { key: readFileSync(keyFile) }),
  });
}

/** Follows links: Kubernetes swaps the folder that its mounts point into. */
function versionOf(files: readonly string[]): string {
  return files
    .map((file) => statSync(file, { bigint: true }))
    .map(({ ino, size, mtimeNs }) => `${ino}/${size}/${mtimeNs}`)
    .join();
}
