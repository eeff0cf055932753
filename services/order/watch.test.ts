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

/** An order whose status is what `now` says. */
function start(status: OrderStatus, options: { intervalMs?: number; signal?: AbortSignal } = {}) {
  const { intervalMs = 500, signal = new AbortController().signal } = options;
  const state = { now: status, reads: 0 };
  const read = async () => {
    state.reads++;
    return orderThatIs(state.now);
  };
  return { state, items: watch({ read, intervalMs, signal }) };
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

test("the signal ends a watch at once, with its reason, and leaves no timer", async () => {
  const before = timers();
  const ending = new AbortController();
  const { items } = start("PENDING", { intervalMs: 3_600_000, signal: ending.signal });
  await items.next();
  const next = items.next();
  await settle();
  assert.equal(timers(), before + 1);
  const reason = new Error("the caller is gone");
  ending.abort(reason);
  await assert.rejects(next, reason);
  assert.equal(timers(), before);
  assert.equal((await items.next()).done, true);
});

test("a watch that is left between two answers leaves no timer", async () => {
  const before = timers();
  const { items } = start("PENDING", { intervalMs: 3_600_000 });
  for await (const _ of items) break;
  assert.equal(timers(), before);
});

test("what the reading throws ends the watch", async () => {
  const failure = new Error("the database is away");
  const items = watch({
    read: () => Promise.reject(failure),
    intervalMs: 500,
    signal: new AbortController().signal,
  });
  await assert.rejects(items.next(), failure);
});
