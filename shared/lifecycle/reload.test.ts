import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { z } from "zod";
import { loadConfig, section } from "#shared/config";
import { recordLog, until, within } from "#shared/testing";
import { type ReconfigurableApp, run } from "./index.ts";

const schema = section({ name: z.string(), limit: z.int().min(1).default(1) });
type Config = z.output<typeof schema>;

interface SetUpOptions {
  readonly app?: Partial<Pick<ReconfigurableApp<Config>, "start" | "stop" | "reconfigure">>;
  /** Long by default: only signals tell. */
  readonly reloadIntervalMs?: number;
}

/** An app that runs on a file, and notes what it is told. */
function setUp(t: TestContext, { app = {}, reloadIntervalMs = 60_000 }: SetUpOptions = {}) {
  const folder = mkdtempSync(join(tmpdir(), "meridian-reload-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "config.yaml");
  function write(text: string): void {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  }
  write("name: one\n");
  const log = recordLog();
  const events: string[] = [];
  const codes: number[] = [];
  const process = Object.assign(new EventEmitter(), {
    env: {},
    stderr: { write: (text: string) => events.push(`stderr ${text}`) },
    exit: (code: number) => codes.push(code),
  });
  const note = (event: string) => async () => {
    events.push(event);
  };
  const ran = run<Config>({
    process,
    load: (env) => loadConfig({ file, schema, env }),
    create: () => ({
      logger: log.logger,
      start: note("start"),
      stop: note("stop"),
      reconfigure: ({ name }) => void events.push(name),
      ...app,
    }),
    reloadIntervalMs,
  });
  async function end(): Promise<void> {
    process.emit("SIGTERM", "SIGTERM");
    await within(ran, "the end");
  }
  t.after(end);
  return { file, write, log, events, codes, process, end, hangUp: () => process.emit("SIGHUP", "SIGHUP") };
}

async function turns(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

test("a changed file is handed to the app and logged, once for each change", async (t) => {
  const { write, log, events } = setUp(t, { reloadIntervalMs: 5 });
  write("name: two\n");
  await until("a reload", () => events.includes("two"));
  write("name: three\nlimit: 5\n");
  await until("another reload", () => events.includes("three"));
  assert.deepEqual(events, ["start", "two", "three"]);
  assert.equal(log.matching({ level: "info", msg: "configuration reloaded" }).length, 2);
});

test("a bad file is refused with every fault, and a good one is taken later", async (t) => {
  const { write, log, events } = setUp(t, { reloadIntervalMs: 5 });
  write("name: 1\nlimit: 0\nextra: 1\n");
  const { faults } = await log.line({ level: "error" });
  assert.deepEqual((faults as { path: string }[]).map(({ path }) => path).sort(), ["extra", "limit", "name"]);
  write("name: two\n");
  await until("a reload", () => events.includes("two"));
  assert.deepEqual(events, ["start", "two"]);
  assert.equal(log.matching({ level: "error" }).length, 1);
});

test("SIGHUP reads the file at once, good or bad", async (t) => {
  const { write, log, events, hangUp } = setUp(t);
  await turns();
  write("name: two\n");
  hangUp();
  await turns();
  assert.deepEqual(events, ["start", "two"]);
  write("limit: 0\n");
  hangUp();
  await turns();
  assert.deepEqual(events, ["start", "two"]);
  const { faults } = await log.line({ level: "error" });
  assert.equal((faults as unknown[]).length, 2);
});

test("a configuration that says the same is not handed on", async (t) => {
  const { write, log, events, hangUp } = setUp(t);
  await turns();
  for (const text of ["# a comment\nname: one\n", "limit: 1\nname: one\n"]) {
    write(text);
    hangUp();
    await turns();
  }
  assert.deepEqual(events, ["start"]);
  assert.equal(log.matching({ msg: "configuration reloaded" }).length, 0);
});

test("an app that fails to take it on goes on: SIGHUP tries again, and to go back to the first is a change", async (t) => {
  const seen: string[] = [];
  for (const fail of [
    () => {
      throw new Error("bug");
    },
    () => Promise.reject(new Error("bug")),
  ]) {
    const { write, log, events, codes, hangUp } = setUp(t, {
      app: {
        reconfigure: ({ name }) => {
          seen.push(name);
          if (name === "two") return fail();
        },
      },
    });
    await turns();
    write("name: two\n");
    hangUp();
    await turns();
    const { err } = await log.line({ level: "error" });
    assert.equal((err as Error).message, "bug");
    hangUp();
    await turns();
    write("name: one\n");
    hangUp();
    await turns();
    assert.deepEqual(seen.splice(0), ["two", "two", "one"]);
    assert.deepEqual([events, codes], [["start"], []]);
  }
});

test("what changes during the start is handed on when the app has started, and only the last of it", async (t) => {
  const starting = Promise.withResolvers<void>();
  const { write, events, hangUp } = setUp(t, { app: { start: () => starting.promise } });
  for (const name of ["two", "three"]) {
    write(`name: ${name}\n`);
    hangUp();
  }
  await turns();
  assert.deepEqual(events, []);
  starting.resolve();
  await turns();
  assert.deepEqual(events, ["three"]);
});

test("an app that stops, or whose start fails, is handed nothing any more", async (t) => {
  const stopping = Promise.withResolvers<void>();
  const { write, process, events, hangUp, codes } = setUp(t, { app: { stop: () => stopping.promise } });
  await turns();
  process.emit("SIGTERM", "SIGTERM");
  await turns();
  write("name: two\n");
  hangUp();
  await turns();
  assert.deepEqual([events, codes], [["start"], []]);
  stopping.resolve();
  await turns();
  assert.deepEqual(codes, [0]);
  assert.deepEqual(process.eventNames(), []);

  const failing = setUp(t, { app: { start: () => Promise.reject(new Error("taken")) } });
  failing.write("name: two\n");
  failing.hangUp();
  await turns();
  assert.deepEqual([failing.events, failing.codes], [["stop"], [1]]);
});

test("an app that cannot be reconfigured leaves SIGHUP alone", async () => {
  const log = recordLog();
  const process = Object.assign(new EventEmitter(), { env: {}, stderr: { write: () => {} }, exit: () => {} });
  const ran = run({
    process,
    load: () => ({ name: "one" }),
    create: () => ({ logger: log.logger, start: async () => {}, stop: async () => {} }),
  });
  await turns();
  assert.equal(process.listenerCount("SIGHUP"), 0);
  process.emit("SIGTERM", "SIGTERM");
  await within(ran, "the end");
});

test("a configuration that is from no file is read on SIGHUP alone", async () => {
  let name = "one";
  const events: string[] = [];
  const process = Object.assign(new EventEmitter(), { env: {}, stderr: { write: () => {} }, exit: () => {} });
  const ran = run({
    process,
    load: () => ({ name }),
    create: () => ({
      logger: recordLog().logger,
      start: async () => {},
      stop: async () => {},
      reconfigure: (config: { name: string }) => void events.push(config.name),
    }),
  });
  await turns();
  name = "two";
  process.emit("SIGHUP", "SIGHUP");
  await turns();
  assert.deepEqual(events, ["two"]);
  process.emit("SIGTERM", "SIGTERM");
  await within(ran, "the end");
});
