import assert from "node:assert/strict";
import { test } from "node:test";
import { createOrderChanges } from "./changes.ts";

/** A listener that counts. */
function counter() {
  const heard = { count: 0, listener: () => void heard.count++ };
  return heard;
}

test("a change is told to those who listen to that order, and to nobody else", () => {
  const changes = createOrderChanges();
  const [one, two, other] = [counter(), counter(), counter()];
  changes.listen("a", one.listener);
  changes.listen("a", two.listener);
  changes.listen("b", other.listener);
  changes.tell("a");
  changes.tell("c");
  assert.deepEqual([one.count, two.count, other.count], [1, 1, 0]);
});

test("an id is the same in either case", () => {
  const changes = createOrderChanges();
  const heard = counter();
  const leave = changes.listen("0190-ABCD", heard.listener);
  changes.tell("0190-abcd");
  leave();
  changes.tell("0190-abcd");
  assert.equal(heard.count, 1);
});

test("whoever has left is told nothing, and leaving twice takes nobody else away", () => {
  const changes = createOrderChanges();
  const [one, two] = [counter(), counter()];
  const leave = changes.listen("a", one.listener);
  changes.listen("a", two.listener);
  leave();
  leave();
  changes.tell("a");
  assert.deepEqual([one.count, two.count], [0, 1]);
});

test("a listener may leave, and another come, while a change is told", () => {
  const changes = createOrderChanges();
  const late = counter();
  const leave = changes.listen("a", () => {
    leave();
    changes.listen("a", late.listener);
  });
  changes.tell("a");
  assert.equal(late.count, 0);
  changes.tell("a");
  assert.equal(late.count, 1);
});

test("beyond the limit nobody is told, until others have left", () => {
  const changes = createOrderChanges(2);
  const [one, two, three] = [counter(), counter(), counter()];
  const leave = changes.listen("a", one.listener);
  changes.listen("b", two.listener);
  const leaveNothing = changes.listen("a", three.listener);
  changes.tell("a");
  leaveNothing();
  leave();
  changes.listen("a", three.listener);
  changes.tell("a");
  assert.deepEqual([one.count, three.count], [1, 1]);
});
