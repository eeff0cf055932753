import { existsSync } from "node:fs";
import { z } from "zod";
import { section } from "#shared/config";

const file = z.string().refine(existsSync, "there is no such file");

/** How connections are secured. Paths are relative to the working directory; changed files are used from the next connection on. */
export const tlsSection = section(
  {
    /** The authorities that may have signed the peer's certificate, PEM. Default: those that Node knows. */
    ca_file: file.optional(),
    /** This service's own certificate chain, PEM, for peers that ask for one (mTLS); with `key_file`. */
    cert_file: file.optional(),
    key_file: file.optional(),
    /** The name that the peer's certificate must have. Default: the one that is called. */
    server_name: z.string().min(1).optional(),
  },
  (tls, fault) => {
    if (tls.cert_file !== undefined && tls.key_file === undefined) fault("key_file", "needed with cert_file");
    if (tls.key_file !== undefined && tls.cert_file === undefined) fault("cert_file", "needed with key_file");
  },
);

export type TlsConfig = z.output<typeof tlsSection>;
