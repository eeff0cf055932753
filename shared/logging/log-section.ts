import { z } from "zod";
import { section } from "#shared/config";

/**
 * Schema of the `log` section of a configuration, which is optional. `level` is the lowest level that is written, default
 * `info`. `format` is `json` (default), `pretty` (one readable line each; needs the package pino-pretty) or `auto` (pretty
 * on a terminal where pino-pretty is installed, else JSON).
 */
export const logSection = section({
  level: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
  format: z.enum(["json", "auto", "pretty"]).default("json"),
}).prefault({});

export type LogConfig = z.output<typeof logSection>;
