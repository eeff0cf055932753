import { isDeepStrictEqual } from "node:util";

/**
 * Lists the sections, by their YAML keys, that differ between two versions of a configuration.
 *
 * @param except sections that are ignored, by their keys in the configuration object
 * @example
 * changedSections(config, next, ["grpcClients"]); // ["server", "watch_interval"]
 */
export function changedSections<Config extends object>(
  before: Config,
  after: Config,
  except: readonly (keyof Config & string)[] = [],
): string[] {
  const [old, latest] = [new Map(Object.entries(before)), new Map(Object.entries(after))];
  for (const key of except) {
    old.delete(key);
    latest.delete(key);
  }
  const keys = new Set([...old.keys(), ...latest.keys()]);
  return [...keys].filter((key) => !isDeepStrictEqual(old.get(key), latest.get(key))).map(yamlKey);
}

/** As `section` reads it: `watchIntervalMs` is a duration named `watch_interval`. */
function yamlKey(key: string): string {
  return key.replace(/Ms$/, "").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
