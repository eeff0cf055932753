import { type ChildProcess, fork } from "node:child_process";
import { type FileHandle, open } from "node:fs/promises";
import { within } from "../../support/within.ts";
import type { Asks, Question, Reply, Role } from "./messages.ts";

/** A process of the benchmark. */
export interface Worker {
  /** @throws Error when it fails, is gone, or takes a minute longer than `takesMs` */
  ask<Kind extends keyof Asks>(kind: Kind, ask: Asks[Kind]["ask"], takesMs?: number): Promise<Asks[Kind]["answer"]>;
  end(): Promise<void>;
}

export interface WorkerOptions {
  readonly role: Role;
  /** For Node, beside our own. */
  readonly execArgv: readonly string[];
}

const CHILD = new URL("child.ts", import.meta.url);
const PATIENCE_MS = 60_000;

export async function startWorker({ role, execArgv }: WorkerOptions): Promise<Worker> {
  const sink = await open("/dev/null", "w");
  const child = forkInto(sink, role, execArgv);
  // The child has its own.
  await sink.close();
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  let asked = 0;

  child.on("message", (reply: Reply) => {
    const question = waiting.get(reply.id);
    waiting.delete(reply.id);
    if ("error" in reply) question?.reject(new Error(`the ${role}: ${reply.error}`));
    else question?.resolve(reply.answer);
  });
  child.once("exit", (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`the ${role} ended with ${signal ?? code}`));
  });

  return {
    async ask<Kind extends keyof Asks>(kind: Kind, ask: Asks[Kind]["ask"], takesMs = 0) {
      if (!child.connected) throw new Error(`the ${role} is gone`);
      const id = asked++;
      const question = Promise.withResolvers<unknown>();
      waiting.set(id, question);
      child.send({ id, kind, ask } satisfies Question);
      return (await within(takesMs + PATIENCE_MS, `the ${role}'s ${kind}`, question.promise)) as Asks[Kind]["answer"];
    },
    async end() {
      // It ends by itself, so that it can write its profile.
      if (child.connected) child.disconnect();
      await within(PATIENCE_MS, `the end of the ${role}`, exited).catch((error: unknown) => {
        child.kill("SIGKILL");
        throw error;
      });
    },
  };
}

/** Its log is written as any service's is, to a stdout that somebody else reads: /dev/null. */
function forkInto(sink: FileHandle, role: Role, execArgv: readonly string[]): ChildProcess {
  return fork(CHILD, [role], {
    // A heap can be told from garbage only after a collection.
    execArgv: ["--expose-gc", ...execArgv],
    stdio: ["ignore", sink.fd, "inherit", "ipc"],
  });
}
