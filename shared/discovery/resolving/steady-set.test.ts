import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { endpointAt } from "../addresses/endpoint.ts";
import { createRecorder } from "../test-support/recorder.ts";
import { createSteadySet } from "./steady-set.ts";

const A = endpointAt("a:1");
const B = endpointAt("b:1");

function steadySetForTest(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const told = createRecorder();
  const held: number[] = [];
  const believed: boolean[] = [];
  const set = createSteadySet({
    graceMs: 1_000,
    listener: told,
    onHeld: (kept) => held.push(kept),
    onBelieved: () => believed.push(true),
  });
  return { set, told, held, believed, tick: (ms: number) => t.mock.timers.tick(ms) };
}

test("the same set in another order is not told again; another weight or priority is", (t) => {
  const { set, told } = steadySetForTest(t);
  set.found([A, B]);
  set.found([B, A]);
  assert.equal(told.sets.length, 1);
  set.found([A, { ...B, weight: 2 }]);
  set.found([A, { ...B, priority: 1 }]);
  assert.equal(told.sets.length, 3);
});

test("an address that is listed twice is told once, with its lowest priority", (t) => {
  const { set, told } = steadySetForTest(t);
  set.found([{ ...A, priority: 2 }, { ...A, priority: 1 }, B, B]);
  assert.deepEqual(told.sets, [[{ ...A, priority: 1 }, B]]);
});

test("an empty list is believed when it has stayed for the grace, counted from the first", (t) => {
  const { set, told, held, believed, tick } = steadySetForTest(t);
  set.found([A]);
  set.found([]);
  tick(600);
  set.found([]);
  tick(399);
  assert.deepEqual(told.sets, [[A]]);
  tick(1);
  assert.deepEqual(told.sets, [[A], []]);
  assert.deepEqual(held, [1]);
  assert.equal(believed.length, 1);
  set.found([]);
  tick(5_000);
  assert.equal(told.sets.length, 2);
});

test("a list that fills in time was never empty", (t) => {
  const { set, told, tick } = steadySetForTest(t);
  set.found([A]);
  set.found([]);
  tick(999);
  set.found([A]);
  tick(5_000);
  assert.deepEqual(told.sets, [[A]]);
});

test("a registry that is lost while it lists nothing is not believed until it says so again", (t) => {
  const { set, told, tick } = steadySetForTest(t);
  set.found([A]);
  set.found([]);
  set.failed(new Error("lost"));
  tick(5_000);
  assert.deepEqual(told.sets, [[A]]);
  set.found([]);
  tick(1_000);
  assert.deepEqual(told.sets, [[A], []]);
});

test("the reason of an empty list is told after it, and not while it is held", (t) => {
  const { set, told, tick } = steadySetForTest(t);
  set.found([A]);
  set.found([], new Error("no such name"));
  assert.equal(told.errors.length, 0);
  tick(1_000);
  assert.deepEqual(told.sets, [[A], []]);
  assert.deepEqual(
    told.errors.map(({ message }) => message),
    ["no such name"],
  );
});

test("nothing is told after it is closed", (t) => {
  const { set, told, tick } = steadySetForTest(t);
  set.found([A]);
  set.found([]);
  set.close();
  tick(5_000);
  set.found([B]);
  set.failed(new Error("lost"));
  assert.deepEqual(told.sets, [[A]]);
  assert.deepEqual(told.errors, []);
});
