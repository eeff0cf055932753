import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";

/** Version of the runner and of the protos that the programs under test are generated from. */
const VERSION = "v1.0.5";
const MODULE = "connectrpc.com/conformance";

const INSTALL_TIMEOUT_MS = 10 * 60_000;

const root = join(import.meta.dirname, "../..");
const cache = join(root, "node_modules/.cache/conformance");
const runner = join(cache, "connectconformance");
const tools = join(root, "node_modules/.bin");
const plugin = { local: "protoc-gen-es", out: "gen", opt: ["target=js+dts", "import_extension=js"] };

export const hasGo = spawnSync("go", ["version"]).status === 0;

/**
 * Installs Connect's official runner by Go, which takes a minute or two the first time, and generates the code of the
 * suite's protos.
 *
 * @returns the path of the runner
 */
export function install(): string {
  mkdirSync(cache, { recursive: true });
  if (installedVersion() !== VERSION) {
    run("go", ["install", `${MODULE}/cmd/connectconformance@${VERSION}`], { GOBIN: cache });
  }
  const { Dir: source } = JSON.parse(run("go", ["mod", "download", "-json", `${MODULE}@${VERSION}`]));
  const template = JSON.stringify({ version: "v2", clean: true, plugins: [plugin] });
  run(join(tools, "buf"), ["generate", join(source, "proto"), "--template", template, "--output", cache], {
    PATH: `${tools}${delimiter}${process.env["PATH"]}`,
  });
  return runner;
}

/** The runner prints, for example, `connectconformance v1.0.5`. */
function installedVersion(): string | undefined {
  return spawnSync(runner, ["--version"], { encoding: "utf8" }).stdout?.trim().split(" ").at(-1);
}

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  return execFileSync(command, args, {
    encoding: "utf8",
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "inherit"],
    timeout: INSTALL_TIMEOUT_MS,
  });
}
