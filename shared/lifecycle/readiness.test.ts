import assert from "node:assert/strict";
import { test } from "node:test";
import { createReadiness, type ReadinessState } from "./index.ts";

test("it is ready when every component is, and each starts not ready", () => {
  const readiness = createReadiness();
  assert.equal(readiness.state().ready, true);
  const database = readiness.component("database");
  const bus = readiness.component("bus");
  assert.deepEqual(readiness.state(), {
    ready: false,
    components: [
      { name: "database", ready: false, reason: "starting" },
      { name: "bus", ready: false, reason: "starting" },
    ],
  });
  database.ready();
  assert.equal(readiness.state().ready, false);
  bus.ready();
  assert.deepEqual(readiness.state(), {
    ready: true,
    components: [
      { name: "database", ready: true },
      { name: "bus", ready: true },
    ],
  });
  database.notReady("connecting");
  assert.deepEqual(readiness.state().components[0], { name: "database", ready: false, reason: "connecting" });
});

test("listeners hear each change and only changes, until they unsubscribe", () => {
  const readiness = createReadiness();
  const heard: ReadinessState[] = [];
  const unsubscribe = readiness.subscribe((state) => heard.push(state));
  const database = readiness.component("database");
  database.ready();
  database.ready();
  database.notReady("gone");
  database.notReady("gone");
  database.notReady("still gone");
  assert.deepEqual(
    heard.map(({ ready, components }) => [ready, components[0]?.reason]),
    [
      [false, "starting"],
      [true, undefined],
      [false, "gone"],
      [false, "still gone"],
    ],
  );
  assert.equal(heard.at(-1), readiness.state());
  unsubscribe();
  database.ready();
  assert.equal(heard.length, 4);
});

test("who waits until it is ready hears of it once: at once, later, or not any more", () => {
  const readiness = createReadiness();
  const heard: string[] = [];
  readiness.onceReady(() => heard.push("at once"));
  assert.deepEqual(heard, ["at once"]);
  const database = readiness.component("database");
  const bus = readiness.component("bus");
  readiness.onceReady(() => heard.push("later"));
  readiness.onceReady(() => heard.push("not any more"))();
  database.ready();
  assert.deepEqual(heard, ["at once"]);
  bus.ready();
  assert.deepEqual(heard, ["at once", "later"]);
  bus.notReady("gone");
  bus.ready();
  assert.deepEqual(heard, ["at once", "later"]);
});

test("a state that was handed out does not change afterwards", () => {
  const readiness = createReadiness();
  const database = readiness.component("database");
  const before = readiness.state();
  database.ready();
  assert.equal(before.components[0]?.ready, false);
});

test("draining is for good, whatever the components say", () => {
  const readiness = createReadiness();
  const database = readiness.component("database");
  database.ready();
  let heard = 0;
  readiness.subscribe(() => heard++);
  readiness.drain("SIGTERM");
  readiness.drain("again");
  assert.equal(heard, 1);
  database.notReady("closed");
  database.ready();
  assert.deepEqual(readiness.state(), {
    ready: false,
    draining: "SIGTERM",
    components: [{ name: "database", ready: true }],
  });
});

test("two components cannot have one name", () => {
  const readiness = createReadiness();
  readiness.component("database");
  assert.throws(() => readiness.component("database"), /database/);
});
