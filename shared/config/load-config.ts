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
  /** What it must hold: usually a `section` of sections. */
  readonly schema: Schema;
  /** The variables that `${NAME}` stands for. `CONFIG_FILE`, when set, names another file to read. */
  readonly env: Environment;
}

/**
 * Reads a service's configuration: YAML, with the environment put in, checked by the schema, deeply frozen.
 *
 * @throws ConfigError with every fault of the file. When the text is not even YAML, keys that it seems to lack are not
 * counted as faults: they may be behind the part that could not be read.
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
    // Whatever was left out above, a value that the schema refused never goes through.
    if (faults.length === 0) faults.push({ path: "", message: "the configuration is not valid" });
  }
  if (!result.success || faults.length > 0) throw new ConfigError(name, faults);
  const config = deepFreeze(result.data);
  if (typeof config === "object" && config !== null) files.set(config, resolve(file));
  return config;
}

const files = new WeakMap<object, string>();

/**
 * The path, from the root, of the file that `loadConfig` read this configuration from; undefined for one that was made
 * otherwise, be it a copy or a part.
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

/** Short when the file is below the working directory. */
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
