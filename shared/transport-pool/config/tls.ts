import { z } from "zod";
import { checkCertAndKey, section, tlsFileKeys } from "#shared/config";

/** How connections are secured. Changed files are used from the next connection on. */
export const tlsSection = section(
  {
    ...tlsFileKeys,
    /** The name that the peer's certificate must have. Default: the one that is called. */
    server_name: z.string().min(1).optional(),
  },
  checkCertAndKey,
);

export type TlsConfig = z.output<typeof tlsSection>;
