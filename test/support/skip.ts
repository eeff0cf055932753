import process from "node:process";

/**
 * For a test's `skip` option: false when what it needs is there, else the reason. With `CI=true` it throws instead: there
 * nothing may be missing.
 */
export function skipWithout(need: string, isThere: boolean): string | false {
  if (isThere) return false;
  if (process.env["CI"] === "true") throw new Error(`CI needs ${need}`);
  return `no ${need}`;
}
