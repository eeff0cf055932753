import assert from "node:assert/strict";
import { test } from "node:test";
import { type ItemWatch, watchItems } from "#shared/rpc";

/** Says what it hears, and by whom. */
function spy(name: string, heard: string[], more: ItemWatch<number> = {}): ItemWatch<number> {
  return {
    onItem(item) {
      heard.push(`${name}: ${item}`);
      return more.onItem?.(item) ?? item;
    },
    onEnd() {
      heard.push(`${name}: end`);
      more.onEnd?.();
    },
    onError(reason) {
      heard.push(`${name}: ${reason}`);
      return more.onError?.(reason) ?? reason;
    },
    onReturn: () => void heard.push(`${name}: return`),
  };
}

async function* numbers(heard: string[], failure?: unknown): AsyncGenerator<number> {
  try {
    yield 1;
    yield 2;
    if (failure !== undefined) throw failure;
  } finally {
    heard.push("closed");
  }
}

async function* endless(heard: string[]): AsyncGenerator<number> {
  try {
    for (let item = 1; ; item++) yield item;
  } finally {
    heard.push("closed");
  }
}

test("watches hear of each item and of the end, from the inside out", async () => {
  const heard: string[] = [];
  const items = watchItems(watchItems(numbers(heard), spy("a", heard)), spy("b", heard));
  assert.deepEqual(await Array.fromAsync(items), [1, 2]);
  assert.deepEqual(heard, ["a: 1", "b: 1", "a: 2", "b: 2", "closed", "a: end", "b: end"]);
});

test("each layer can put an item in another's place", async () => {
  const items = watchItems(watchItems(numbers([]), { onItem: (item) => item * 10 }), { onItem: (item) => item + 1 });
  assert.deepEqual(await Array.fromAsync(items), [11, 21]);
});

test("a failure passes each layer, which can make another of it; after it there is nothing", async () => {
  const heard: string[] = [];
  const inner = spy("a", heard, { onError: (reason) => `${reason}!` });
  const iterator = watchItems(watchItems(numbers(heard, "broken"), inner), spy("b", heard))[Symbol.asyncIterator]();
  await iterator.next();
  await iterator.next();
  await assert.rejects(
    () => iterator.next(),
    (reason) => reason === "broken!",
  );
  assert.deepEqual(heard.slice(-3), ["closed", "a: broken", "b: broken!"]);
  assert.equal((await iterator.next()).done, true);
  assert.equal(heard.length, 7);
});

test("a layer that refuses an item closes the source, and fails those outside of it", async () => {
  const heard: string[] = [];
  const refusing: ItemWatch<number> = {
    onItem() {
      throw new Error("refused");
    },
  };
  const layers = [spy("a", heard), refusing, spy("c", heard)];
  const items = layers.reduce<AsyncIterable<number>>(watchItems, endless(heard));
  await assert.rejects(() => Array.fromAsync(items), /refused/);
  assert.deepEqual(heard, ["a: 1", "closed", "a: return", "c: Error: refused"]);
});

test("a layer that fails at the end fails those outside of it", async () => {
  const heard: string[] = [];
  const failing = {
    onEnd() {
      throw new Error("not yet");
    },
  };
  const items = watchItems(watchItems(numbers(heard), failing), spy("b", heard));
  await assert.rejects(() => Array.fromAsync(items), /not yet/);
  assert.equal(heard.at(-1), "b: Error: not yet");
});

test("leaving early closes the source, and then tells each layer, once", async () => {
  const heard: string[] = [];
  const iterator = watchItems(watchItems(endless(heard), spy("a", heard)), spy("b", heard))[Symbol.asyncIterator]();
  await iterator.next();
  await iterator.return?.();
  await iterator.return?.();
  assert.deepEqual(heard.slice(2), ["closed", "a: return", "b: return"]);
  assert.equal((await iterator.next()).done, true);
});

test("what is thrown at a generator comes out of it through each layer", async () => {
  const heard: string[] = [];
  const iterator = watchItems(endless(heard), spy("a", heard))[Symbol.asyncIterator]();
  await iterator.next();
  await assert.rejects(
    async () => iterator.throw?.("out"),
    (reason) => reason === "out",
  );
  assert.deepEqual(heard.slice(1), ["closed", "a: out"]);
});

test("a source that can only be asked is closed by asking no more", async () => {
  const heard: string[] = [];
  let asked = 0;
  const source: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({
      next: () => Promise.resolve({ done: false, value: ++asked }),
    }),
  };
  for (const leave of ["return", "throw"] as const) {
    const iterator = watchItems(source, spy("a", heard))[Symbol.asyncIterator]();
    await iterator.next();
    await iterator[leave]?.("out").catch(() => {});
    assert.equal((await iterator.next()).done, true);
  }
  assert.deepEqual(heard, ["a: 1", "a: return", "a: 2", "a: out"]);
});

test("a source that fails at once fails as one that does so later", async () => {
  const heard: string[] = [];
  const source: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({
      next() {
        throw new Error("at once");
      },
    }),
  };
  const iterator = watchItems(source, spy("a", heard))[Symbol.asyncIterator]();
  await assert.rejects(() => iterator.next(), /at once/);
  assert.deepEqual(heard, ["a: Error: at once"]);
});

test("each step is taken within all layers' surroundings, the last one's outermost", async () => {
  const heard: string[] = [];
  const around = (name: string): ItemWatch<number> => ({
    around(step) {
      heard.push(`into ${name}`);
      try {
        return step();
      } finally {
        heard.push(`out of ${name}`);
      }
    },
  });
  const items = watchItems(watchItems(endless(heard), around("a")), around("b"));
  const iterator = items[Symbol.asyncIterator]();
  heard.length = 0;
  await iterator.next();
  assert.deepEqual(heard, ["into b", "into a", "out of a", "out of b"]);
});
