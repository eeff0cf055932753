import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { abortableItems } from "./abortable.ts";

const why = new Error("why");

function startItems(controller: AbortController) {
  const heard: string[] = [];
  const gate = Promise.withResolvers<void>();
  async function* source(): AsyncGenerator<number> {
    try {
      yield 1;
      await gate.promise;
      yield 2;
    } finally {
      heard.push("closed");
    }
  }
  const iterator = abortableItems(controller.signal, source())[Symbol.asyncIterator]();
  const listeners = () => getEventListeners(controller.signal, "abort").length;
  return { iterator, heard, gate, listeners };
}

test("items come as they are, and nobody listens to the signal after the last", async () => {
  const { iterator, heard, gate, listeners } = startItems(new AbortController());
  gate.resolve();
  assert.deepEqual(await iterator.next(), { done: false, value: 1 });
  assert.equal(listeners(), 1);
  assert.deepEqual(await iterator.next(), { done: false, value: 2 });
  assert.equal((await iterator.next()).done, true);
  assert.equal((await iterator.next()).done, true);
  assert.deepEqual(heard, ["closed"]);
  assert.equal(listeners(), 0);
});

test("the signal ends a step in its middle, and the source when the step is done", async () => {
  const controller = new AbortController();
  const { iterator, heard, gate, listeners } = startItems(controller);
  await iterator.next();
  const step = iterator.next();
  controller.abort(why);
  await assert.rejects(step, why);
  assert.deepEqual(heard, []);
  gate.resolve();
  await new Promise(setImmediate);
  assert.deepEqual(heard, ["closed"]);
  assert.equal((await iterator.next()).done, true);
  assert.equal(listeners(), 0);
});

test("a signal that fires between two steps fails the next, and closes the source", async () => {
  const controller = new AbortController();
  const { iterator, heard } = startItems(controller);
  await iterator.next();
  controller.abort(why);
  await assert.rejects(async () => iterator.next(), why);
  await new Promise(setImmediate);
  assert.deepEqual(heard, ["closed"]);
  assert.equal((await iterator.next()).done, true);
});

test("a signal that had fired lets nothing come", async () => {
  const controller = new AbortController();
  controller.abort(why);
  const { iterator } = startItems(controller);
  await assert.rejects(async () => iterator.next(), why);
});

test("whoever leaves waits until the source is closed", async () => {
  const { iterator, heard, listeners } = startItems(new AbortController());
  await iterator.next();
  await iterator.return?.();
  assert.deepEqual(heard, ["closed"]);
  assert.equal(listeners(), 0);
  assert.equal((await iterator.next()).done, true);
});

test("a source's own failure comes through, and is the end", async () => {
  async function* failing(): AsyncGenerator<number> {
    yield 1;
    throw why;
  }
  const iterator = abortableItems(new AbortController().signal, failing())[Symbol.asyncIterator]();
  await iterator.next();
  await assert.rejects(async () => iterator.next(), why);
  assert.equal((await iterator.next()).done, true);
});

test("asks that do not wait for one another are answered in their order", async () => {
  const { iterator, gate } = startItems(new AbortController());
  const results = [iterator.next(), iterator.next(), iterator.next()];
  gate.resolve();
  assert.deepEqual(
    (await Promise.all(results)).map(({ value }) => value),
    [1, 2, undefined],
  );
});

test("an ask behind one that fails comes to the end", async () => {
  const controller = new AbortController();
  const { iterator } = startItems(controller);
  await iterator.next();
  const results = Promise.allSettled([iterator.next(), iterator.next()]);
  controller.abort(why);
  const [first, second] = await results;
  assert.equal(first?.status, "rejected");
  assert.deepEqual(second, { status: "fulfilled", value: { done: true, value: undefined } });
});
