import { type ChildProcess, fork } from "node:child_process";
import { closeSync, openSync } from "node:fs";
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

export function startWorker(options: WorkerOptions): Worker {
  const { role } = options;
  const child = forkChild(options);
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  let asked = 0;

  child.on("message", (reply: Reply) => {
    const question = waiting.get(reply.id);
    waiting.delete(reply.id);
    if ("error" in reply) question?.reject(new Error(`the ${role}: ${reply.error}`));
    else question?.resolve(reply.answer);
  });
  const failAll = (why: string) => {
    for (const { reject } of waiting.values()) reject(new Error(`the ${role} ${why}`));
  };
  child.once("exit", (code, signal) => failAll(`ended with ${signal ?? code}`));
  child.on("error", ({ message }) => failAll(`cannot be run: ${message}`));

  return {
    async ask<Kind extends keyof Asks>(kind: Kind, ask: Asks[Kind]["ask"], takesMs = 0) {
      if (!child.connected) throw new Error(`the ${role} is gone`);
      const id = asked++;
      const question = Promise.withResolvers<unknown>();
      waiting.set(id, question);
      child.send({ id, kind, ask } satisfies Question, (error) => {
        // It may have ended unseen.
        if (error !== null) question.reject(new Error(`the ${role} is gone`, { cause: error }));
      });
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

const FLAGS = [
  // A heap can be told from garbage only after a collection.
  "--expose-gc",
  // Whoever waits for its turn is to stay as it is under load: V8 would make its heap smaller and drop code.
  "--no-memory-reducer",
  "--no-flush-bytecode",
];

/** Its log is written as any service's is, to a stdout that somebody else reads: /dev/null. */
function forkChild({ role, execArgv }: WorkerOptions): ChildProcess {
  const sink = openSync("/dev/null", "w");
  try {
    return fork(CHILD, [role], {
      execArgv: [...FLAGS, ...execArgv],
      stdio: ["ignore", sink, "inherit", "ipc"],
    });
  } finally {
    // The child has its own.
    closeSync(sink);
  }
}
