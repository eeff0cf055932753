import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createLifecycle, type Lifecycle, type LifecyclePart } from "./index.ts";

interface Logged {
  readonly level: "debug" | "error";
  readonly fields: object;
}

/** A lifecycle whose parts note what happens to them. */
function setUp(): { lifecycle: Lifecycle; events: string[]; logged: Logged[]; add(name: string, part?: Part): void } {
  const events: string[] = [];
  const logged: Logged[] = [];
  const log = (level: Logged["level"]) => (fields: unknown) => {
    logged.push({ level, fields: fields as object });
  };
  const lifecycle = createLifecycle({ logger: { debug: log("debug"), error: log("error") } });
  return {
    lifecycle,
    events,
    logged,
    add: (name, part = {}) =>
      lifecycle.add({
        name,
        start: () => {
          events.push(`start ${name}`);
        },
        stop: () => {
          events.push(`stop ${name}`);
        },
        ...part,
      }),
  };
}

type Part = Omit<LifecyclePart, "name">;

function fakeTimers(t: TestContext): (ms: number) => Promise<void> {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  return async (ms) => {
    await turns();
    t.mock.timers.tick(ms);
    await turns();
  };
}

/** Lets every promise that can go on go on. */
async function turns(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

const never = () => new Promise<void>(() => {});
const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));

test("parts start in order, one after the other, and stop in reverse", async () => {
  const { lifecycle, events, add } = setUp();
  add("database", {
    start: async () => {
      await turns();
      events.push("start database");
    },
  });
  add("bus");
  add("server");
  await lifecycle.start();
  await lifecycle.stop();
  const expected = ["start database", "start bus", "start server", "stop server", "stop bus", "stop database"];
  assert.deepEqual(events, expected);
});

test("a failing start stops what had started, in reverse, and names the part with its error as cause", async () => {
  const { lifecycle, events, add } = setUp();
  const cause = new Error("no route to host");
  add("database");
  add("bus");
  add("server", { start: () => Promise.reject(cause) });
  add("consumer");
  await assert.rejects(lifecycle.start(), (error: Error) => error.message.includes("server") && error.cause === cause);
  assert.deepEqual(events, ["start database", "start bus", "stop bus", "stop database"]);
});

test("a start that throws at once is a failing start", async () => {
  const { lifecycle, add } = setUp();
  add("server", {
    start: () => {
      throw new Error("bad");
    },
  });
  await assert.rejects(lifecycle.start(), /server/);
});

test("a part without a start is open when it is added: it is stopped in its place, even after a failed start", async () => {
  const { lifecycle, events } = setUp();
  const part = (name: string, start?: () => Promise<void>) => ({
    name,
    ...(start && { start }),
    stop: () => {
      events.push(`stop ${name}`);
    },
  });
  lifecycle.add(part("database", async () => {}));
  lifecycle.add(part("pool"));
  lifecycle.add(part("server", () => Promise.reject(new Error("taken"))));
  lifecycle.add(part("late pool"));
  await assert.rejects(lifecycle.start());
  assert.deepEqual(events, ["stop late pool", "stop pool", "stop database"]);
});

test("a part keeps its own this", async () => {
  const { lifecycle } = setUp();
  const part = {
    name: "server",
    state: "new",
    start() {
      this.state = "started";
    },
    stop() {
      this.state = "stopped";
    },
  };
  lifecycle.add(part);
  await lifecycle.start();
  assert.equal(part.state, "started");
  await lifecycle.stop();
  assert.equal(part.state, "stopped");
});

test("a start that overruns has its signal fired and fails with a TimeoutError", async (t) => {
  const tick = fakeTimers(t);
  const { lifecycle, events, add } = setUp();
  let signal: AbortSignal | undefined;
  add("database");
  add("bus", {
    startTimeoutMs: 100,
    start: (given) => {
      signal = given;
      return never();
    },
  });
  const started = lifecycle.start();
  const failed = assert.rejects(started, (error: Error) => (error.cause as Error).name === "TimeoutError");
  await tick(99);
  assert.equal(signal?.aborted, false);
  await tick(1);
  await failed;
  assert.equal(signal?.aborted, true);
  assert.deepEqual(events, ["start database", "stop database"]);
});

test("a start that succeeds after it overran is stopped then", async (t) => {
  const tick = fakeTimers(t);
  const { lifecycle, events, add } = setUp();
  const late = Promise.withResolvers<void>();
  add("bus", { startTimeoutMs: 100, start: () => late.promise });
  const failed = assert.rejects(lifecycle.start());
  await tick(100);
  await failed;
  assert.deepEqual(events, []);
  late.resolve();
  await turns();
  assert.deepEqual(events, ["stop bus"]);
});

test("every part is stopped though one fails and one overruns, and both are logged", async (t) => {
  const tick = fakeTimers(t);
  const { lifecycle, events, logged, add } = setUp();
  let signal: AbortSignal | undefined;
  add("database");
  add("bus", {
    stopTimeoutMs: 100,
    stop: (given) => {
      signal = given;
      return never();
    },
  });
  add("server", {
    stop: () => {
      throw new Error("already closed");
    },
  });
  await lifecycle.start();
  const stopped = lifecycle.stop();
  await tick(100);
  await stopped;
  assert.deepEqual(events.at(-1), "stop database");
  assert.equal(signal?.aborted, true);
  assert.deepEqual(
    logged.map(({ level, fields }) => [level, (fields as { part: string }).part]),
    [
      ["error", "server"],
      ["error", "bus"],
    ],
  );
});

test("stopping again waits for the same stop", async () => {
  const { lifecycle, events, add } = setUp();
  add("server");
  await lifecycle.start();
  await Promise.all([lifecycle.stop(), lifecycle.stop()]);
  await lifecycle.stop();
  assert.deepEqual(events, ["start server", "stop server"]);
});

test("stop during start interrupts it: its signal fires, what had started is stopped, start rejects", async () => {
  const { lifecycle, events, add } = setUp();
  add("database");
  add("bus", { start: untilAborted });
  add("server");
  const failed = assert.rejects(lifecycle.start(), /bus/);
  await turns();
  await lifecycle.stop();
  await failed;
  assert.deepEqual(events, ["start database", "stop database"]);
});

test("a part that ends its start in spite of the stop is stopped too", async () => {
  const { lifecycle, events, add } = setUp();
  const opened = Promise.withResolvers<void>();
  add("bus", { start: () => opened.promise });
  const failed = assert.rejects(lifecycle.start());
  await turns();
  const stopped = lifecycle.stop();
  opened.resolve();
  await Promise.all([failed, stopped]);
  assert.deepEqual(events, ["stop bus"]);
});

test("a stop waits for a start that heeds no signal only as long as the part may take to stop", async (t) => {
  const tick = fakeTimers(t);
  const { lifecycle, events, add } = setUp();
  add("database");
  add("bus", { start: never, stopTimeoutMs: 50 });
  const failed = assert.rejects(lifecycle.start());
  await turns();
  const stopped = lifecycle.stop();
  await tick(50);
  await Promise.all([failed, stopped]);
  assert.deepEqual(events, ["start database", "stop database"]);
});

test("a stop after the start leaves the start's signals alone", async () => {
  const { lifecycle, add } = setUp();
  let signal: AbortSignal | undefined;
  add("server", {
    start: (given) => {
      signal = given;
    },
  });
  await lifecycle.start();
  await lifecycle.stop();
  assert.equal(signal?.aborted, false);
});

test("stopped before it started, it closes what is open and refuses to start", async () => {
  const { lifecycle, events, add } = setUp();
  add("server");
  lifecycle.add({
    name: "pool",
    stop: () => {
      events.push("stop pool");
    },
  });
  await lifecycle.stop();
  assert.deepEqual(events, ["stop pool"]);
  await assert.rejects(lifecycle.start());
});

test("nothing can be added once started", async () => {
  const { lifecycle, add } = setUp();
  await lifecycle.start();
  assert.throws(() => add("late"), /late/);
});
