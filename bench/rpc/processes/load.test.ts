import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { greet, LARGE_NAME, MESSAGES_A_STREAM } from "../peers/answers.ts";
import { callOf, runLoad } from "./load.ts";

const client = {
  sayHello: async (name: string) => greet(name),
  watchOrder: async () => MESSAGES_A_STREAM,
};

describe("a load of calls", () => {
  test("makes as many as are asked for, never more at once than that", async () => {
    let now = 0;
    let most = 0;
    const call = async () => {
      most = Math.max(most, ++now);
      await Promise.resolve();
      now--;
      return 1;
    };
    const { calls, operations } = await runLoad(call, 8, { calls: 100 });
    assert.deepEqual({ calls, operations, most, now }, { calls: 100, operations: 100, most: 8, now: 0 });
  });

  test("counts the messages of streams that overlap", async () => {
    const { calls, operations } = await runLoad(callOf(client, "stream"), 4, { calls: 10 });
    assert.deepEqual({ calls, operations }, { calls: 10, operations: 10 * MESSAGES_A_STREAM });
  });

  test("ends with the first call that fails", async () => {
    const call = async () => {
      throw new Error("gone");
    };
    await assert.rejects(runLoad(call, 2, { calls: 10 }), /gone/);
  });
});

describe("a call", () => {
  test("fails when the answer is not the right one", async () => {
    const wrong = { sayHello: async () => "?", watchOrder: async () => 99 };
    for (const kind of ["small", "10k", "stream"] as const) {
      await assert.rejects(callOf(wrong, kind)(), /came, of/);
      assert.equal(await callOf(client, kind)(), kind === "stream" ? MESSAGES_A_STREAM : 1);
    }
  });

  test("that is large has 10 KiB to carry", () => {
    assert.equal(Buffer.byteLength(greet(LARGE_NAME)), 10 * 1024);
  });
});
