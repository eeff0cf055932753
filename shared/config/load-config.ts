import { readFileSync } from "node:fs";
import { relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { z } from "zod";
import { ConfigError } from "./config-error.ts";
import { schemaFaults } from "./schema-faults.ts";
import type { Environment } from "./substitution.ts";
import { readYaml } from "./yaml-source.ts";

export interface LoadConfigOptions<Schema extends z.ZodType> {
  /** The YAML file: a path from the working directory, or a URL such as `new URL("config.yaml", import.meta.url)`. */
  readonly file: string | URL;
  /** Schema of the file: usually a `section` of sections. */
  readonly schema: Schema;
  /** Environment for `${NAME}` references. `CONFIG_FILE`, when set, replaces `file`. */
  readonly env: Environment;
}

/**
 * Reads a service's configuration: parses the YAML, replaces references to the environment, validates, freezes deeply.
 *
 * @throws ConfigError with every fault of the file. When the text is not valid YAML, missing keys are not reported: they may
 * stand in the part that could not be parsed.
 */
export function loadConfig<Schema extends z.ZodType>(options: LoadConfigOptions<Schema>): z.output<Schema> {
  const { schema, env } = options;
  const file = env["CONFIG_FILE"] || (options.file instanceof URL ? fileURLToPath(options.file) : options.file);
  const name = displayName(file);
  const source = readYaml(readText(file, name), env);
  const result = schema.safeParse(source.value);
  const faults = [...source.faults];
  if (!result.success) {
    for (const { path, message, missing } of schemaFaults(result.error, source.value)) {
      if (source.unresolved.has(path) || (missing && source.broken)) continue;
      faults.push({ path, message });
    }
    // A value that the schema refused is never accepted, even when all of its faults were left out above.
    if (faults.length === 0) faults.push({ path: "", message: "the configuration is not valid" });
  }
  if (!result.success || faults.length > 0) throw new ConfigError(name, faults);
  const config = deepFreeze(result.data);
  if (typeof config === "object" && config !== null) files.set(config, resolve(file));
  return config;
}

const files = new WeakMap<object, string>();

/**
 * Returns the absolute path of the file that `loadConfig` read this configuration from; undefined for any other object,
 * also for a copy or a part.
 */
export function configFile(config: object): string | undefined {
  return files.get(config);
}

function readText(file: string, name: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    const message = code === "ENOENT" ? "there is no such file" : `cannot be read (${String(code ?? cause)})`;
    throw new ConfigError(name, [{ path: "", message }], { cause });
  }
}

/** Returns a relative path when the file is below the working directory. */
function displayName(file: string): string {
  const path = relative("", file);
  return path === "" || path.startsWith("..") ? resolve(file) : path;
}

function deepFreeze<T>(value: T): T {
  if (Array.isArray(value) || isPlainObject(value)) {
    for (const item of Object.values(value)) deepFreeze(item);
    Object.freeze(value);
  }
  return value;
}

function isPlainObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
