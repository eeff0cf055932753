import { z } from "zod";
import { section } from "#shared/config";

/** `admin:` of a service's YAML. */
export const adminSection = section({
  /** The address to listen on. The pages tell of addresses and internals: whoever reaches the port can read them. */
  host: z.string().min(1).default("127.0.0.1"),
  /** 0 takes any free port. */
  port: z.int().min(0).max(65_535),
});

export type AdminConfig = z.output<typeof adminSection>;
