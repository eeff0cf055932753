import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { within } from "#shared/testing";

const END_TIMEOUT_MS = 30_000;
const OUTPUT_LIMIT = 20_000;

/** A process that ends with this one at the latest. */
export interface Running {
  ended(): boolean;
  /** The last 20,000 characters of what it has written. */
  output(): string;
  /** Resolves when it has ended. */
  readonly exit: Promise<unknown>;
  /** Sends the signal, if it runs, and waits for its end. */
  end(signal: NodeJS.Signals): Promise<void>;
}

export async function runGuarded(
  program: string,
  args: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv,
): Promise<Running> {
  const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-OUTPUT_LIMIT);
    });
  }
  await once(child, "spawn");
  const exit = once(child, "exit");
  const guard = startGuard(child);
  void exit.then(() => guard.kill("SIGKILL"));
  return {
    ended: () => child.exitCode !== null || child.signalCode !== null,
    output: () => output,
    exit,
    async end(signal) {
      child.kill(signal);
      await within(exit, `the end of ${program}`, END_TIMEOUT_MS);
    },
  };
}

/** Kills the child when this process is gone, however it went: only then does the guard's input end. */
function startGuard({ pid }: ChildProcess): ChildProcess {
  const script = 'read -r line; kill -KILL "$0"';
  const guard = spawn("/bin/sh", ["-c", script, String(pid)], { stdio: ["pipe", "ignore", "ignore"], detached: true });
  guard.unref();
  return guard;
}
