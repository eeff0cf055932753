import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { closeAfter } from "#shared/testing";
import { repository } from "./service-process.ts";

const execute = promisify(execFile);

/** The repository as it stands in the working tree, elsewhere, to be changed at will. Removed after the test. */
export interface RepositoryCopy {
  readonly folder: string;
  write(path: string, text: string): Promise<void>;
  edit(path: string, change: (text: string) => string): Promise<void>;
  /** Runs a program of `node_modules/.bin`, or npm; answers what it has written, also when it failed. */
  run(program: string, ...args: string[]): Promise<{ readonly code: number; readonly output: string }>;
}

export async function copyRepository(t: TestContext): Promise<RepositoryCopy> {
  const folder = await mkdtemp(join(tmpdir(), "meridian-copy-"));
  closeAfter(t, () => rm(folder, { recursive: true }));
  const { stdout } = await execute("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: repository,
    maxBuffer: 16 * 1024 * 1024,
  });
  const paths = stdout.split("\0").filter((path) => path !== "" && existsSync(join(repository, path)));
  for (const parent of new Set(paths.map((path) => dirname(path)))) {
    await mkdir(join(folder, parent), { recursive: true });
  }
  for (const path of paths) await copyFile(join(repository, path), join(folder, path));
  await symlink(join(repository, "node_modules"), join(folder, "node_modules"));

  return {
    folder,
    async write(path, text) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), text);
    },
    async edit(path, change) {
      const before = await readFile(join(folder, path), "utf8");
      const text = change(before);
      if (text === before) throw new Error(`${path} stays as it was`);
      await writeFile(join(folder, path), text);
    },
    async run(program, ...args) {
      const own = join(folder, "node_modules/.bin");
      const env = { ...process.env, PATH: [own, process.env["PATH"]].join(delimiter) };
      try {
        const { stdout, stderr } = await execute(program, args, { cwd: folder, env, timeout: 120_000 });
        return { code: 0, output: stdout + stderr };
      } catch (error) {
        const { code, stdout, stderr } = error as { code: unknown; stdout?: string; stderr?: string };
        if (stdout === undefined || stderr === undefined) throw error;
        return { code: Number(code), output: stdout + stderr };
      }
    },
  };
}
