import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { until, within } from "#shared/testing";

export const repository = join(import.meta.dirname, "../..");

type Env = Readonly<Record<string, string>>;

export interface ProgramOptions {
  readonly env?: Env;
  /** Default: the repository. */
  readonly cwd?: string;
}

/** A program of ours as a process of its own. */
export interface Program {
  readonly pid: number | undefined;
  /** What it has written so far, in lines. */
  readonly stdout: readonly string[];
  stderr(): string;
  /** Its exit code; how it ended otherwise, when it did. */
  readonly exit: Promise<number | NodeJS.Signals>;
  /** Waits for a line that the pattern matches; fails at once when the program ends without. */
  line(pattern: RegExp): Promise<string>;
  /** Sends the signal and waits for the end. */
  end(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/** A start loads everything from disk, on a machine that does other things too. */
const START_TIMEOUT_MS = 120_000;
const END_TIMEOUT_MS = 20_000;

/** What is left of this process's environment: nothing that configures a service, but which way its calls take. */
const inherited = ["PATH", "HOME", "NODE_V8_COVERAGE", "FAST_PATH"] as const;

/** Runs `node <script>`. Whoever starts it ends it, at the latest by `kill`. */
export function runProgram(script: string, { env = {}, cwd = repository }: ProgramOptions = {}): Program {
  const base = Object.fromEntries(inherited.map((name) => [name, process.env[name]]));
  const child = spawn(process.execPath, [script], { cwd, env: { ...base, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  const stdout: string[] = [];
  let stderr = "";
  createInterface({ input: child.stdout }).on("line", (line) => stdout.push(line));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  let ended = false;
  const exit = once(child, "close").then(([code, signal]) => {
    ended = true;
    children.delete(child);
    return (code ?? signal) as number | NodeJS.Signals;
  });
  return {
    pid: child.pid,
    stdout,
    stderr: () => stderr,
    exit,
    async line(pattern) {
      const matching = () => stdout.find((line) => pattern.test(line));
      await until(`${script} to write ${pattern}`, () => ended || matching() !== undefined, START_TIMEOUT_MS);
      const line = matching();
      if (line === undefined) throw new Error(`${script} has ended without ${pattern}: ${stderr}${stdout.join("\n")}`);
      return line;
    },
    async end(signal = "SIGTERM") {
      child.kill(signal);
      return within(exit, `the end of ${script}`, END_TIMEOUT_MS);
    },
  };
}

const children = new Set<ChildProcess>();

/** Ends what is left of all programs, at once. For `after`. */
export function killPrograms(): void {
  for (const child of children) child.kill("SIGKILL");
}

export interface ServiceProcess extends Program {
  readonly url: string;
}

/** `npm run start:<name>`, once it listens. */
export async function startService(name: string, env: Env, cwd?: string): Promise<ServiceProcess> {
  const program = runProgram(`services/${name}/main.ts`, { env, ...(cwd !== undefined && { cwd }) });
  const { url } = JSON.parse(await program.line(/"msg":"listening"/)) as { url: string };
  return { ...program, url };
}

/** Waits until `/readyz` says so. */
export async function ready({ url }: { readonly url: string }): Promise<void> {
  await until(`${url} to be ready`, async () => (await fetch(`${url}/readyz`)).status === 200, START_TIMEOUT_MS);
}
