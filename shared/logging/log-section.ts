import { z } from "zod";
import { section } from "#shared/config";

/**
 * The `log` section of a configuration. `level` is the least that is written, default `info`. `format` is `json`, the
 * default; `pretty`, one readable line each, which needs the pino-pretty package; or `auto`, which is pretty on a
 * terminal where pino-pretty is installed. The whole section can be left out.
 */
export const logSection = section({
  level: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
  format: z.enum(["json", "auto", "pretty"]).default("json"),
}).prefault({});

export type LogConfig = z.output<typeof logSection>;
