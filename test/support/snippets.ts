import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { blocksOf } from "./readme.ts";
import { repository } from "./service-process.ts";

/** A snippet that others import is the file of this name. */
const CONFIG = { marker: /export const configSection/, name: "config.ts" } as const;

/**
 * Compiles each TypeScript snippet of a text that has no `file=`.
 *
 * @param preamble declares what the text takes for granted; a snippet that imports for itself stands alone
 * @returns number of snippets
 */
export async function assertCompiles(t: TestContext, text: string, preamble: string): Promise<number> {
  const snippets = blocksOf(text).filter(({ language, file }) => language === "ts" && file === undefined);
  const folder = await mkdtemp(join(tmpdir(), "snippets-"));
  t.after(() => rm(folder, { recursive: true }));
  for (const name of ["gen", "shared", "node_modules", "package.json"]) {
    await symlink(join(repository, name), join(folder, name));
  }
  await mkdir(join(folder, "snippets"));
  for (const [index, snippet] of snippets.entries()) {
    const whole = snippet.text.startsWith("import ") ? snippet.text : `${preamble}\n${snippet.text}\nexport {};\n`;
    const name = CONFIG.marker.test(snippet.text) ? CONFIG.name : `snippet-${index}.ts`;
    await writeFile(join(folder, "snippets", name), whole);
  }
  const config = { extends: join(repository, "tsconfig.json"), include: ["snippets"] };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(config));
  const tsc = join(repository, "node_modules/.bin/tsc");
  const { stdout } = await promisify(execFile)(tsc, ["-p", folder, "--noEmit"], { cwd: folder }).catch(
    (error: { stdout: string }) => error,
  );
  assert.equal(stdout, "");
  return snippets.length;
}
