import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import tls from "node:tls";
import type { ServerConfig } from "../config.ts";

export type TlsConfig = NonNullable<ServerConfig["tls"]>;

/** What a TLS server shows, and whom it lets in. */
export interface Certificates {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Present with `client_ca_file`: who may sign what clients present. */
  readonly ca?: string[];
}

/**
 * Reads the files and holds them against each other.
 *
 * @throws Error when one cannot be read or is not PEM, or the key is not the certificate's
 */
export function readCertificates({ certFile, keyFile, clientCaFile }: TlsConfig): Certificates {
  const pair = { cert: readFileSync(certFile), key: readFileSync(keyFile) };
  // A server that is given bad ones by setSecureContext has lost its good ones.
  tls.createSecureContext(pair);
  return clientCaFile === undefined ? pair : { ...pair, ca: readAuthorities(clientCaFile) };
}

/** OpenSSL takes what it can read of a bundle, be it nothing, and leaves the rest. Here all of it must be good. */
function readAuthorities(file: string): string[] {
  const text = readFileSync(file, "utf8");
  const certificates = text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  const begun = text.match(/-----BEGIN/g) ?? [];
  if (certificates.length === 0 || certificates.length < begun.length) {
    throw new Error(`${file} is not a list of whole certificates`);
  }
  for (const certificate of certificates) new X509Certificate(certificate);
  return certificates;
}
