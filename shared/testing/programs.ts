import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { within } from "./waiting.ts";

const EXIT_TIMEOUT_MS = 10_000;
/** Folders of servers, which are not in the PATH of users on Debian. */
const MORE_FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/**
 * Finds a program. Without it the test is skipped and the result is undefined (return then); with `CI=true` it fails.
 *
 * @param from Debian package of the program
 */
export function programForTest(t: TestContext, name: string, from: string): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(":"), ...MORE_FOLDERS];
  const path = folders.map((folder) => join(folder, name)).find(isExecutable);
  if (path !== undefined) return path;
  const reason = `no ${name} for tests (Debian's package ${from} has it)`;
  if (process.env["CI"] === "true") throw new Error(`CI needs it: ${reason}`);
  t.skip(reason);
  return undefined;
}

export interface RunningProgram {
  readonly child: ChildProcess;
  /** Returns its output so far (stdout and stderr). */
  said(): string;
  /** Kills it (SIGKILL) and waits for its end. */
  kill(): Promise<void>;
}

export function runProgram(path: string, args: readonly string[]): RunningProgram {
  const child = spawn(path, args, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const output of [child.stdout, child.stderr]) {
    output.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
  }
  child.on("error", (error) => {
    said += error.message;
  });
  return {
    child,
    said: () => said,
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
      const exited = once(child, "exit");
      child.kill("SIGKILL");
      await within(exited, `${path} to end`, EXIT_TIMEOUT_MS);
    },
  };
}

/** Finds a free TCP port of 127.0.0.1, for programs that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
