import { readFileSync, statSync } from "node:fs";
import { createSecureContext, type SecureContext } from "node:tls";
import type { TlsConfig } from "../config/tls.ts";

/** What new connections are secured with. */
export interface ClientTls {
  /** From the files as they are now, or as they were when they could last be used. */
  secureContext(): SecureContext;
  /** The name that the peer's certificate must have, when it is not the one that is called. */
  readonly serverName: string | undefined;
}

/**
 * Certificates are replaced while services run: each new connection uses the files as they are by then. When the new
 * ones cannot be used (half written, key and certificate of different pairs, gone) the last good ones stay.
 *
 * @param onError what was wrong with changed files; once for each change
 * @throws Error when the files cannot be used to begin with; it names them
 */
export function createClientTls(config: TlsConfig, onError: (error: Error) => void): ClientTls {
  const files = [config.caFile, config.certFile, config.keyFile].filter((file) => file !== undefined);
  // Looked at before they are read: what changes in between is read again.
  let version = versionOf(files);
  let context = makeContext(config, files);

  return {
    serverName: config.serverName,
    secureContext() {
      const latest = versionOf(files);
      if (latest === version) return context;
      version = latest;
      try {
        context = makeContext(config, files);
      } catch (error) {
        onError(error instanceof Error ? error : new Error(String(error)));
      }
      return context;
    },
  };
}

function makeContext({ caFile, certFile, keyFile }: TlsConfig, files: readonly string[]): SecureContext {
  try {
    return createSecureContext({
      ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
      ...(certFile === undefined ? {} : { cert: readFileSync(certFile) }),
      ...(keyFile === undefined ? {} : { key: readFileSync(keyFile) }),
    });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`TLS files cannot be used: ${files.join(", ")}: ${reason}`, { cause });
  }
}

/** Follows links: Kubernetes swaps the folder that its mounts point into. */
function versionOf(files: readonly string[]): string {
  return files.map(versionOfFile).join();
}

function versionOfFile(file: string): string {
  try {
    const { ino, size, mtimeNs } = statSync(file, { bigint: true });
    return `${ino}/${size}/${mtimeNs}`;
  } catch {
    // Whoever reads it learns why.
    return "unreadable";
  }
}
