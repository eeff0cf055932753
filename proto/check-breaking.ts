// `npm run breaking`: holds the protos of the working tree against those of main's last commit; on main itself, when
// nothing is uncommitted, against the commit before. Prints what breaks and exits as buf does.
//
// `buf breaking --against .git` would not do: the files that npm installs for import are in no commit.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");

function git(...words: string[]): string | undefined {
  const { status, stdout } = spawnSync("git", words, { cwd: root, encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

/** The commit to compare with; undefined where there is none, as in a shallow clone's first. */
function baseline(): string | undefined {
  const main =
    git("rev-parse", "--verify", "--quiet", "origin/main") ?? git("rev-parse", "--verify", "--quiet", "main");
  const isMainItself = main === git("rev-parse", "HEAD") && git("status", "--porcelain", "--", "proto") === "";
  return isMainItself ? git("rev-parse", "--verify", "--quiet", "HEAD~1") : main;
}

const base = baseline();
if (base === undefined || git("cat-file", "-e", `${base}:buf.yaml`) === undefined) {
  process.stdout.write("breaking: there is no earlier commit to compare with\n");
} else {
  const before = mkdtempSync(join(tmpdir(), "meridian-breaking-"));
  try {
    const archive = execFileSync("git", ["archive", base, "buf.yaml", "proto"], { cwd: root, maxBuffer: 2 ** 28 });
    execFileSync("tar", ["-x", "-C", before], { input: archive });
    symlinkSync(join(root, "node_modules"), join(before, "node_modules"));
    const { status } = spawnSync("buf", ["breaking", "--against", before], { cwd: root, stdio: "inherit" });
    process.exitCode = status ?? 1;
    process.stdout.write(`breaking: compared with ${base.slice(0, 12)}\n`);
  } finally {
    rmSync(before, { recursive: true, force: true });
  }
}
