import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { type TestContext, test } from "node:test";
import { createFlights, type Flight, type Flights } from "./flights.ts";

interface World {
  readonly flights: Flights<Flight>;
  readonly ended: string[];
  readonly setTimeout: { readonly mock: { callCount(): number } };
  tick(ms: number): void;
  add(afterMs: number, signal?: AbortSignal): Flight;
}

function worldFor(t: TestContext): World {
  let now = 1_000;
  t.mock.method(performance, "now", () => now);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const timers = t.mock.method(globalThis, "setTimeout");
  const ended: string[] = [];
  const end = (how: string) => (flight: Flight) => {
    assert.ok(flights.remove(flight));
    ended.push(`${how} ${flight.expiresAt - 1_000}`);
  };
  const flights = createFlights<Flight>(end("expired"), end("aborted"));
  return {
    flights,
    ended,
    setTimeout: timers,
    tick(ms) {
      for (let passed = 0; passed < ms; passed++) {
        now++;
        t.mock.timers.tick(1);
      }
    },
    add(afterMs, signal) {
      const flight = { expiresAt: now + afterMs, signal };
      flights.add(flight);
      return flight;
    },
  };
}

test("each flight expires at its own time, also one that comes later and expires earlier", (t) => {
  const { flights, ended, tick, add } = worldFor(t);
  add(100);
  add(200);
  tick(10);
  add(20);
  tick(19);
  assert.deepEqual(ended, []);
  tick(1);
  assert.deepEqual(ended, ["expired 30"]);
  tick(70);
  assert.deepEqual(ended, ["expired 30", "expired 100"]);
  tick(100);
  assert.deepEqual([ended.at(-1), flights.size], ["expired 200", 0]);
  add(50);
  tick(50);
  assert.equal(ended.at(-1), "expired 250");
});

test("flights that are removed in time do not expire, and need no timer of their own", (t) => {
  const { flights, ended, setTimeout, tick, add } = worldFor(t);
  for (let index = 0; index < 1_000; index++) {
    const flight = add(500);
    tick(1);
    assert.equal(flights.remove(flight), true);
    assert.equal(flights.remove(flight), false);
  }
  assert.deepEqual(ended, []);
  assert.ok(setTimeout.mock.callCount() <= 4, `${setTimeout.mock.callCount()} timers`);
});

test("a signal ends its own flights with one listener, which is gone when they are", (t) => {
  const { flights, ended, add } = worldFor(t);
  const [first, second] = [new AbortController(), new AbortController()];
  for (const ms of [1, 2]) add(ms, first.signal);
  const removed = add(3, first.signal);
  const other = add(4, second.signal);
  add(5);
  assert.equal(getEventListeners(first.signal, "abort").length, 1);
  flights.remove(removed);
  first.abort();
  assert.deepEqual(ended, ["aborted 1", "aborted 2"]);
  assert.equal(getEventListeners(first.signal, "abort").length, 0);
  flights.remove(other);
  assert.equal(getEventListeners(second.signal, "abort").length, 0);
  assert.equal(flights.size, 1);
});
