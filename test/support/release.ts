import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { closeAfter } from "#shared/testing";
import { repository } from "./service-process.ts";
import { skipWithout } from "./skip.ts";

const execute = promisify(execFile);

/**
 * Writes files of an earlier commit of this repository into a folder of their own, removed after the test, where they run
 * with the packages that are installed here. Not below `node_modules`, where Node strips no types.
 *
 * @returns the folder; undefined when the test is skipped, in a clone without that commit
 */
export async function releaseForTest(
  t: TestContext,
  commit: string,
  paths: readonly string[],
): Promise<string | undefined> {
  const git = (...args: readonly string[]) => execute("git", args, { cwd: repository });
  const isThere = await git("cat-file", "-e", `${commit}^{commit}`).then(
    () => true,
    () => false,
  );
  const reason = skipWithout(`commit ${commit} (git fetch --unshallow)`, isThere);
  if (reason !== false) {
    t.skip(reason);
    return undefined;
  }
  const folder = await mkdtemp(join(tmpdir(), "meridian-release-"));
  closeAfter(t, () => rm(folder, { recursive: true }));
  const archive = join(folder, "release.tar");
  await git("archive", "--output", archive, commit, "package.json", ...paths);
  await execute("tar", ["-xf", archive, "-C", folder]);
  await symlink(join(repository, "node_modules"), join(folder, "node_modules"));
  return folder;
}
