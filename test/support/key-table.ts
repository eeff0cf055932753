import assert from "node:assert/strict";
import { parse } from "yaml";

export interface KeyTable {
  /** Markdown rows, with the keys in the first column and their defaults in the second. */
  readonly table: string;
  /** Loads a section. Throws when it has an unknown key or a wrong value. */
  readonly load: (section: object) => unknown;
  /** Whether the section has the key, whatever its value is. */
  readonly isKnown: (section: object, path: readonly string[]) => boolean;
  /** The section that a key is added to. Default: an empty one. */
  readonly baseOf?: (path: readonly string[]) => object;
}

/**
 * Compares a table of configuration keys with a schema: each key is there, and a default in backquotes loads to the same
 * as leaving the key out.
 *
 * @returns the keys, and the number of defaults that were compared
 */
export function compareKeyTable({ table, load, isKnown, baseOf = () => ({}) }: KeyTable) {
  const rows = [...table.matchAll(/^ *\| (`.*?) \| (.*?) \| .* \|$/gm)];
  const keys: string[] = [];
  let compared = 0;
  for (const [row, cell = "", defaults = ""] of rows) {
    const paths = pathsOf(cell);
    const values = [...defaults.matchAll(/`(.*?)`/g)].map(([, value = ""]) => value);
    for (const [index, path] of paths.entries()) {
      keys.push(path.join("."));
      const base = baseOf(path);
      assert.ok(isKnown(base, path), `there is no ${path.join(".")}: ${row}`);
      const value = values.length === paths.length ? values[index] : undefined;
      if (value === undefined) continue;
      const given = withKey(structuredClone(base), path, parse(value));
      assert.deepEqual(load(given), load(base), `the default of ${path.join(".")}: ${row}`);
      compared++;
    }
  }
  return { keys, compared };
}

/** Sets a nested key of an object, and returns the object. */
export function withKey(root: object, path: readonly string[], value: unknown): object {
  let at = root as Record<string, unknown>;
  for (const key of path.slice(0, -1)) {
    at[key] ??= {};
    at = at[key] as Record<string, unknown>;
  }
  at[path.at(-1) ?? ""] = value;
  return root;
}

/** "`retry.max`, `.timeout`" and "`tls{ca_file,key_file}`" as paths. */
function pathsOf(cell: string): string[][] {
  const paths: string[][] = [];
  for (const [, text = ""] of cell.matchAll(/`(.*?)`/g)) {
    const [, before = "", inner] = /^(.*?)(?:\{(.*)\})?$/.exec(text) ?? [];
    const stem = before.startsWith(".") ? [...(paths.at(-1)?.slice(0, -1) ?? []), before.slice(1)] : before.split(".");
    for (const name of inner?.split(",") ?? [""]) paths.push(name === "" ? stem : [...stem, name]);
  }
  return paths;
}
