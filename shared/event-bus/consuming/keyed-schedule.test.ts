import assert from "node:assert/strict";
import { test } from "node:test";
import { createKeyedSchedule } from "./keyed-schedule.ts";

test("items without a key come out in their order, as many as are asked for", () => {
  const schedule = createKeyedSchedule<number>();
  for (let i = 0; i < 5; i++) schedule.push("", i);
  assert.deepEqual(schedule.take(2).items, [0, 1]);
  assert.deepEqual(schedule.take(2).items, [2, 3]);
  assert.deepEqual(schedule.take(2).items, [4]);
  assert.deepEqual(schedule.take(2).items, []);
});

test("a key that somebody has is nobody else's until it is released", () => {
  const schedule = createKeyedSchedule<string>();
  schedule.push("a", "a1");
  const first = schedule.take(1);
  schedule.push("a", "a2");
  schedule.push("b", "b1");
  assert.deepEqual(schedule.take(10).items, ["b1"]);
  assert.deepEqual(schedule.take(10).items, []);
  schedule.release(first);
  assert.deepEqual(schedule.take(10).items, ["a2"]);
});

test("one taker may have several items of a key, in their order", () => {
  const schedule = createKeyedSchedule<string>();
  for (const item of ["a1", "b1", "a2", "a3"]) schedule.push(item.slice(0, 1), item);
  const taken = schedule.take(3);
  assert.deepEqual(taken.items, ["a1", "a2", "a3"]);
  assert.deepEqual(schedule.take(3).items, ["b1"]);
});

test("what is beyond the most that is asked for waits for its key's release", () => {
  const schedule = createKeyedSchedule<string>();
  for (const item of ["a1", "a2", "a3"]) schedule.push("a", item);
  const taken = schedule.take(2);
  assert.deepEqual(taken.items, ["a1", "a2"]);
  assert.deepEqual(schedule.take(2).items, []);
  assert.equal(schedule.size, 1);
  schedule.release(taken);
  assert.deepEqual(schedule.take(2).items, ["a3"]);
});

test("clearing drops what nobody has, keys that are taken too, and says what", () => {
  const schedule = createKeyedSchedule<string>();
  schedule.push("a", "a1");
  const taken = schedule.take(1);
  for (const item of ["a2", "b1"]) schedule.push(item.slice(0, 1), item);
  schedule.push("", "x");
  assert.deepEqual(schedule.clear().sort(), ["a2", "b1", "x"]);
  assert.equal(schedule.size, 0);
  schedule.push("a", "a3");
  assert.deepEqual(schedule.take(10).items, []);
  schedule.release(taken);
  assert.deepEqual(schedule.take(10).items, ["a3"]);
});

test("nothing is lost, doubled or out of its key's order, whatever is pushed, taken and released when", () => {
  let seed = 42;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  const schedule = createKeyedSchedule<{ key: string; n: number }>();
  const last = new Map<string, number>();
  const held: ReturnType<typeof schedule.take>[] = [];
  const busy = new Set<string>();
  let pushed = 0;
  let seen = 0;
  const release = () => {
    const [taken] = held.splice(random(held.length), 1);
    for (const { key } of taken!.items) busy.delete(key);
    schedule.release(taken!);
  };
  while (seen < 20_000) {
    const what = random(3);
    if (what === 0 && pushed < 20_000) {
      const key = random(4) === 0 ? "" : `k${random(50)}`;
      schedule.push(key, { key, n: pushed++ });
    } else if (what === 1) {
      const taken = schedule.take(1 + random(8));
      const keys = new Set(taken.items.map(({ key }) => key).filter((key) => key !== ""));
      for (const key of keys) assert.ok(!busy.has(key), "a key that somebody has");
      for (const { key, n } of taken.items) {
        seen++;
        if (key === "") continue;
        assert.ok(n > (last.get(key) ?? -1), "out of order");
        last.set(key, n);
      }
      for (const key of keys) busy.add(key);
      held.push(taken);
    } else if (held.length > 0) release();
  }
  while (held.length > 0) release();
  assert.equal(seen, 20_000);
  assert.equal(schedule.size, 0);
});

test("an item that is to be taken alone comes alone, in its turn, also within its key", () => {
  const schedule = createKeyedSchedule<string>((item) => item.startsWith("!"));
  for (const [key, item] of [
    ["a", "a1"],
    ["a", "!a2"],
    ["a", "a3"],
    ["", "free"],
    ["b", "!b1"],
    ["c", "c1"],
  ] as const) {
    schedule.push(key, item);
  }
  const order: { items: readonly string[]; alone: boolean }[] = [];
  while (schedule.size > 0) {
    const nextIsAlone = schedule.nextIsAlone;
    const taken = schedule.take(10);
    assert.equal(taken.alone, nextIsAlone);
    order.push({ items: taken.items, alone: taken.alone });
    schedule.release(taken);
  }
  assert.deepEqual(order, [
    { items: ["a1", "free"], alone: false },
    { items: ["!b1"], alone: true },
    { items: ["c1"], alone: false },
    { items: ["!a2"], alone: true },
    { items: ["a3"], alone: false },
  ]);
});
