import { existsSync } from "node:fs";
import { z } from "zod";

const file = z.string().refine(existsSync, "there is no such file");

/**
 * Keys of a `section` for TLS client connections, with PEM files. Paths are relative to the working directory. The files
 * must exist when the configuration is read. Use `checkCertAndKey` as the check of the section.
 */
export const tlsFileKeys = {
  /** Certificate authorities accepted for the peer's certificate. Default: those built into Node. */
  ca_file: file.optional(),
  /** This process's own certificate chain, for peers that ask for one (mTLS); with `key_file`. */
  cert_file: file.optional(),
  key_file: file.optional(),
};

/** Checks a section with `tlsFileKeys`: certificate and key are given together. */
export function checkCertAndKey(
  { cert_file, key_file }: { cert_file?: string | undefined; key_file?: string | undefined },
  fault: (key: "cert_file" | "key_file", message: string) => void,
): void {
  if (cert_file !== undefined && key_file === undefined) fault("key_file", "needed with cert_file");
  if (key_file !== undefined && cert_file === undefined) fault("cert_file", "needed with key_file");
}
