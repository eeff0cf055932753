import assert from "node:assert/strict";
import { test } from "node:test";
import type { Order, OrderStatus } from "./orders.ts";
import { watch } from "./watch.ts";

const orderThatIs = (status: OrderStatus): Order => ({
  id: "1",
  userId: "ada",
  items: [],
  totalCents: 0n,
  status,
  createdAt: new Date(0),
  updatedAt: new Date(0),
});

/** An order whose status is what `now` says, and whose change is told by `tell`. */
function start(status: OrderStatus, options: { intervalMs?: number; signal?: AbortSignal } = {}) {
  const { intervalMs = 500, signal = new AbortController().signal } = options;
  const state = { now: status, reads: 0 };
  const read = async () => {
    state.reads++;
    return orderThatIs(state.now);
  };
  const listeners = new Set<() => void>();
  const listen = (listener: () => void) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };
  const tell = () => {
    for (const listener of listeners) listener();
  };
  return { state, listeners, tell, items: watch({ read, listen, intervalMs, signal }) };
}

const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === "Timeout").length;
const settle = () => new Promise((resolve) => setImmediate(resolve));

test("an order whose status is final is answered once", async () => {
  for (const status of ["CONFIRMED", "CANCELLED"] as const) {
    const { state, items } = start(status);
    assert.deepEqual(await Array.fromAsync(items), [orderThatIs(status)]);
    assert.equal(state.reads, 1);
  }
});

test("each change is answered once, at the interval, until the status is final", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { state, items } = start("PENDING");
  assert.deepEqual((await items.next()).value, orderThatIs("PENDING"));

  let answered = false;
  const next = items.next().finally(() => {
    answered = true;
  });
  for (let looks = 2; looks < 6; looks++) {
    await settle();
    t.mock.timers.tick(499);
    await settle();
    assert.equal(state.reads, looks - 1);
    t.mock.timers.tick(1);
    await settle();
    assert.equal(state.reads, looks);
  }
  assert.equal(answered, false);

  state.now = "CONFIRMED";
  t.mock.timers.tick(500);
  assert.deepEqual((await next).value, orderThatIs("CONFIRMED"));
  assert.equal((await items.next()).done, true);
});

test("a change that is told is answered at once", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { state, tell, items } = start("PENDING");
  await items.next();
  const next = items.next();
  await settle();
  tell();
  await settle();
  assert.equal(state.reads, 2, "it looks, and there is nothing new");
  state.now = "CONFIRMED";
  tell();
  assert.deepEqual((await next).value, orderThatIs("CONFIRMED"));
});

test("a change that is told while nobody waits for it is not missed", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { state, tell, items } = start("PENDING");
  await items.next();
  // Between two answers: the watch stands still.
  state.now = "CANCELLED";
  tell();
  assert.deepEqual((await items.next()).value, orderThatIs("CANCELLED"));
});

test("a change that is told during a look is looked at", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const looks = [Promise.withResolvers<Order>(), Promise.withResolvers<Order>()];
  let reads = 0;
  let tell = () => {};
  const items = watch({
    read: () => looks[reads++]!.promise,
    listen(listener) {
      tell = listener;
      return () => {};
    },
    intervalMs: 500,
    signal: new AbortController().signal,
  });
  const first = items.next();
  await settle();
  tell();
  looks[0]!.resolve(orderThatIs("PENDING"));
  await first;
  looks[1]!.resolve(orderThatIs("CONFIRMED"));
  assert.deepEqual((await items.next()).value, orderThatIs("CONFIRMED"));
});

test("the signal ends a watch at once, with its reason, and leaves no timer and no listener", async () => {
  const before = timers();
  const ending = new AbortController();
  const { listeners, items } = start("PENDING", { intervalMs: 3_600_000, signal: ending.signal });
  await items.next();
  const next = items.next();
  await settle();
  assert.deepEqual([timers(), listeners.size], [before + 1, 1]);
  const reason = new Error("the caller is gone");
  ending.abort(reason);
  await assert.rejects(next, reason);
  assert.deepEqual([timers(), listeners.size], [before, 0]);
  assert.equal((await items.next()).done, true);
});

test("a watch that is left between two answers leaves no timer and no listener", async () => {
  const before = timers();
  const { listeners, items } = start("PENDING", { intervalMs: 3_600_000 });
  for await (const _ of items) break;
  assert.deepEqual([timers(), listeners.size], [before, 0]);
});

test("a watch that has come to its end leaves no listener", async () => {
  const { listeners, items } = start("CONFIRMED");
  await Array.fromAsync(items);
  assert.equal(listeners.size, 0);
});

test("what the reading throws ends the watch", async () => {
  const failure = new Error("the database is away");
  const items = watch({
    read: () => Promise.reject(failure),
    listen: () => () => {},
    intervalMs: 500,
    signal: new AbortController().signal,
  });
  await assert.rejects(items.next(), failure);
});
