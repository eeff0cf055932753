import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { type TestContext, test } from "node:test";
import { ConfigError } from "#shared/config";
import { type App, run } from "./index.ts";

/** A process that notes how it ended, and an app that notes what it was told. */
function setUp(app: Partial<Pick<App, "start" | "stop">> = {}) {
  const events: string[] = [];
  const fatal: { err: unknown }[] = [];
  const exited = Promise.withResolvers<number>();
  const process = Object.assign(new EventEmitter(), {
    env: { NAME: "user" },
    stderr: { write: (text: string) => events.push(`stderr ${text}`) },
    exit: (code: number) => {
      events.push(`exit ${code}`);
      exited.resolve(code);
    },
  });
  const note = (event: string) => async () => {
    events.push(event);
  };
  const logger = {
    info: () => {},
    warn: () => {},
    error: (fields: object) => events.push(`error ${Object.keys(fields)}`),
    fatal: (fields: { err: unknown }) => {
      events.push("fatal");
      fatal.push(fields);
    },
    flush: () => events.push("flush"),
  } as unknown as App["logger"];
  const create = (): App => ({ logger, start: note("start"), stop: note("stop"), ...app });
  return { process, events, fatal, create, exited: exited.promise };
}

const never = () => new Promise<void>(() => {});

async function turns(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function tick(t: TestContext, ms: number): Promise<void> {
  await turns();
  t.mock.timers.tick(ms);
  await turns();
}

test("it loads from the environment, creates, starts, and on a signal stops and exits with 0", async () => {
  for (const signal of ["SIGTERM", "SIGINT"]) {
    const { process, events, create } = setUp();
    const seen: unknown[] = [];
    const ran = run({
      process,
      load: (env) => env["NAME"],
      create: (config) => {
        seen.push(config);
        return create();
      },
    });
    await turns();
    assert.deepEqual([...seen, ...events], ["user", "start"]);
    process.emit(signal, signal);
    await ran;
    assert.deepEqual(events, ["start", "stop", "flush", "exit 0"]);
    assert.deepEqual(process.eventNames(), []);
  }
});

test("a bad configuration is told on stderr, fault by fault, and exits with 78", async () => {
  const { process, events, create } = setUp();
  const error = new ConfigError("config.yaml", [
    { path: "server.port", message: "missing" },
    { path: "log.level", message: "unknown" },
  ]);
  await run({
    process,
    load: () => {
      throw error;
    },
    create,
  });
  assert.deepEqual(events, [`stderr ${error.message}\n`, "exit 78"]);
});

test("an app that cannot be created is told on stderr and exits with 1", async () => {
  const { process, events } = setUp();
  await run({
    process,
    load: () => 0,
    create: () => {
      throw new Error("no such client", { cause: new Error("the reason, amqp://u:hunter2@h") });
    },
  });
  assert.match(events[0] ?? "", /no such client[\s\S]*the reason/);
  assert.doesNotMatch(events[0] ?? "", /hunter2/);
  assert.deepEqual(events.slice(1), ["exit 1"]);
});

test("a start that fails is logged as fatal with its cause, stopped, and exits with 1", async () => {
  const err = new Error("server failed to start", { cause: new Error("taken") });
  const { process, events, fatal, create } = setUp({ start: () => Promise.reject(err) });
  await run({ process, load: () => 0, create });
  assert.deepEqual(events, ["fatal", "stop", "flush", "exit 1"]);
  assert.equal(fatal[0]?.err, err);
});

test("a signal during the start stops the app and exits with 0, whatever the start says then", async () => {
  const starting = Promise.withResolvers<void>();
  const { process, events, create } = setUp({
    start: () => starting.promise,
    stop: async () => starting.reject(new Error("told to stop")),
  });
  const ran = run({ process, load: () => 0, create });
  await turns();
  process.emit("SIGTERM", "SIGTERM");
  await ran;
  assert.deepEqual(events, ["flush", "exit 0"]);
});

test("a second signal ends at once with 128 and its number", async (t) => {
  t.mock.timers.enable({ apis: ["Date"] });
  for (const [signal, code] of [
    ["SIGTERM", 143],
    ["SIGINT", 130],
  ] as const) {
    const { process, events, create } = setUp({ stop: never });
    const ran = run({ process, load: () => 0, create });
    await turns();
    process.emit("SIGTERM", "SIGTERM");
    await turns();
    // The same one once more, as a terminal and `node --watch` send it: still one Ctrl-C.
    process.emit("SIGTERM", "SIGTERM");
    await turns();
    assert.deepEqual(events, ["start"]);
    t.mock.timers.tick(500);
    process.emit(signal, signal);
    await ran;
    assert.deepEqual(events, ["start", "flush", `exit ${code}`]);
  }
});

test("an uncaught error is logged as fatal, the app stopped once, and the code is 1", async () => {
  for (const event of ["uncaughtException", "unhandledRejection"]) {
    const { process, events, fatal, create } = setUp();
    const ran = run({ process, load: () => 0, create });
    await turns();
    const err = new Error("bug", { cause: "why" });
    process.emit(event, err);
    process.emit(event, err);
    await ran;
    assert.deepEqual(events, ["start", "fatal", "fatal", "stop", "flush", "exit 1"]);
    assert.equal(fatal[0]?.err, err);
  }
});

test("a broken app that does not stop is left after the bound", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { process, events, create } = setUp({ stop: never });
  const ran = run({ process, load: () => 0, create, crashStopTimeoutMs: 200 });
  await turns();
  process.emit("uncaughtException", new Error("bug"));
  await tick(t, 199);
  assert.deepEqual(events, ["start", "fatal"]);
  await tick(t, 1);
  await ran;
  assert.deepEqual(events, ["start", "fatal", "error timeout_ms", "flush", "exit 1"]);
});

test("a crash in the middle of a stop lets the stop end and exits with 1", async () => {
  const stopping = Promise.withResolvers<void>();
  const { process, events, create } = setUp({ stop: () => stopping.promise });
  const ran = run({ process, load: () => 0, create });
  await turns();
  process.emit("SIGTERM", "SIGTERM");
  process.emit("unhandledRejection", new Error("bug"));
  stopping.resolve();
  await ran;
  assert.deepEqual(events, ["start", "fatal", "flush", "exit 1"]);
});

test("a stop that fails is logged and exits with 1", async () => {
  const { process, events, create } = setUp({ stop: () => Promise.reject(new Error("stuck")) });
  const ran = run({ process, load: () => 0, create });
  await turns();
  process.emit("SIGTERM", "SIGTERM");
  await ran;
  assert.deepEqual(events, ["start", "error err", "flush", "exit 1"]);
});
