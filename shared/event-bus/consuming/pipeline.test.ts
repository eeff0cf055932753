import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Disposition } from "./disposition.ts";
import type { AttemptResult, Received } from "./handling.ts";
import { createPipeline, type PipelineOptions } from "./pipeline.ts";

function received(id: string, key = ""): Received {
  const envelope = {
    id,
    type: "t",
    source: "s",
    timeMs: 0,
    key,
    routingKey: "",
    mustBeRouted: true,
    contentType: "",
    body: new Uint8Array(),
    context: {},
  };
  return { envelope, attempt: 1, postponed: 0, unknownRounds: 0 };
}

/** A pipeline whose batches end when the test says so. */
function open(t: TestContext, options: Partial<PipelineOptions<Received>> = {}) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const batches: { readonly ids: string[]; end(result?: AttemptResult): void }[] = [];
  const settled: [string, Disposition["kind"]][] = [];
  const pipeline = createPipeline<Received>({
    handling(messages) {
      const { promise, resolve } = Promise.withResolvers<AttemptResult[]>();
      const end = (result: AttemptResult = { kind: "done" }) => resolve(messages.map(() => result));
      batches.push({ ids: messages.map(({ envelope }) => envelope.id), end });
      return promise;
    },
    decide: (_, result) =>
      result.kind === "unavailable"
        ? { kind: "give-back", error: result.error }
        : { kind: "acknowledge", as: "handled" },
    settle: ({ envelope }, { kind }) => void settled.push([envelope.id, kind]),
    concurrency: 3,
    guard: { batchSize: 4 },
    recover: async () => true,
    keepsDeadLetters: true,
    log: () => {},
    ...options,
  });
  const push = (...ids: string[]) => {
    for (const id of ids) pipeline.push(received(id));
  };
  return { pipeline, push, batches, settled, ids: () => batches.map(({ ids }) => ids.join("")) };
}

test("the first batch has what was received in one turn", async (t) => {
  const { push, ids } = open(t);
  push("a", "b", "c");
  assert.deepEqual(ids(), []);
  await turn();
  assert.deepEqual(ids(), ["abc"]);
});

test("while messages are handled, fewer than a batch wait for others, for a bounded time", async (t) => {
  const { push, ids } = open(t);
  push("a");
  await turn();
  push("b", "c");
  await turn();
  assert.deepEqual(ids(), ["a"]);
  t.mock.timers.tick(5);
  assert.deepEqual(ids(), ["a", "bc"]);
  push("d");
  t.mock.timers.tick(5);
  assert.deepEqual(ids(), ["a", "bc", "d"]);
});

test("a full batch waits for nothing, and what waits is handled as soon as nothing else is", async (t) => {
  const { push, batches, ids } = open(t);
  push("a");
  await turn();
  push("b", "c", "d", "e", "f");
  assert.deepEqual(ids(), ["a", "bcde"]);
  for (const { end } of batches) end();
  await turn();
  assert.deepEqual(ids(), ["a", "bcde", "f"]);
});

test("without batches each message is handled at once, as many as may be", (t) => {
  const { push, ids } = open(t, { guard: { batchSize: 1 } });
  push("a", "b", "c", "d");
  assert.deepEqual(ids(), ["a", "b", "c"]);
});

test("the size of a batch is the guard's at that time", async (t) => {
  const guard = { batchSize: 4 };
  const { push, ids } = open(t, { guard });
  push("a", "b", "c");
  guard.batchSize = 2;
  await turn();
  guard.batchSize = 1;
  push("d");
  assert.deepEqual(ids(), ["ab", "c", "d"]);
});

test("a message that is handled alone is noted before each attempt and after it", async (t) => {
  const notes: string[] = [];
  const { push, batches, settled } = open(t, {
    alone: {
      includes: ({ envelope }) => envelope.id === "x",
      begin: async () => void notes.push("begin"),
      end: async () => void notes.push("end"),
    },
  });
  push("x", "a");
  await turn();
  batches[0]?.end({ kind: "unavailable", error: new Error("away") });
  await turn();
  assert.deepEqual(notes, ["begin", "end"]);
  t.mock.timers.tick(100);
  await turn();
  await turn();
  assert.deepEqual([notes, batches.length], [["begin", "end", "begin"], 2]);
  batches[1]?.end();
  await turn();
  assert.deepEqual(notes, ["begin", "end", "begin", "end"]);
  assert.deepEqual([settled, batches[2]?.ids], [[["x", "acknowledge"]], ["a"]]);
});

test("a message that is not to be handled is settled as judged, and the next one is handled", async (t) => {
  const { push, settled, ids } = open(t, {
    alone: {
      includes: ({ envelope }) => envelope.id === "x",
      begin: async () => ({ kind: "dead-letter", reason: "delivery_limit", error: undefined }),
      end: () => assert.fail("no attempt"),
    },
  });
  push("x", "a");
  await turn();
  await turn();
  assert.deepEqual([settled, ids()], [[["x", "dead-letter"]], ["a"]]);
});
