import { existsSync } from "node:fs";
import { z } from "zod";

const file = z.string().refine(existsSync, "there is no such file");

/**
 * The keys of a `section` for connections to others, secured by PEM files. Paths are relative to the working directory.
 * The files must be there when the configuration is read. To be checked by `checkCertAndKey`.
 */
export const tlsFileKeys = {
  /** The authorities that may have signed the peer's certificate. Default: those that Node knows. */
  ca_file: file.optional(),
  /** This process's own certificate chain, for peers that ask for one (mTLS); with `key_file`. */
  cert_file: file.optional(),
  key_file: file.optional(),
};

/** The check of a section with `tlsFileKeys`: neither certificate nor key is there alone. */
export function checkCertAndKey(
  { cert_file, key_file }: { cert_file?: string | undefined; key_file?: string | undefined },
  fault: (key: "cert_file" | "key_file", message: string) => void,
): void {
  if (cert_file !== undefined && key_file === undefined) fault("key_file", "needed with cert_file");
  if (key_file !== undefined && cert_file === undefined) fault("cert_file", "needed with key_file");
}
