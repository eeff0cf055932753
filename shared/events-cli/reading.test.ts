import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { rabbitmqForTest, startTcpProxy, until } from "#shared/testing";
import { answered, openBroker } from "./broker.ts";
import { lookThrough, type Reading, removeFrom } from "./reading.ts";
import { type QueueForTest, queueForTest } from "./test-support.ts";

async function put(one: QueueForTest, count: number): Promise<void> {
  await one.declare();
  for (let i = 0; i < count; i++) await one.put(one.queue, { messageId: String(i) });
}

/** A judge that remembers what it has seen. */
function witness(judge: Reading["judge"]) {
  const seen: (string | undefined)[] = [];
  return {
    seen,
    judge(message: Parameters<Reading["judge"]>[0]) {
      seen.push(message.messageId);
      return judge(message);
    },
  };
}

const reasonOf = (error: unknown) => (error as { readonly reason?: string } | undefined)?.reason;

describe("a reading", () => {
  test("ends when there are fewer messages than were counted: somebody else has them", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await put(one, 3);
    const looker = witness(() => "leave");
    assert.deepEqual(await lookThrough(one.broker, { ...one, most: 10, judge: looker.judge }), { removed: 0 });
    const remover = witness(() => "remove");
    assert.deepEqual(await removeFrom(one.broker, { ...one, most: 10, judge: remover.judge }), { removed: 3 });
    assert.deepEqual(
      [looker.seen, remover.seen],
      [
        ["0", "1", "2"],
        ["0", "1", "2"],
      ],
    );
    assert.equal(await one.count(one.queue), 0);
  });

  test("ends at its bound, though each message that it removes makes another", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await put(one, 250);
    const again = witness(async ({ messageId }) => {
      await one.put(one.queue, { messageId: `again ${messageId}` });
      return "remove" as const;
    });
    assert.deepEqual(await removeFrom(one.broker, { ...one, most: 250, judge: again.judge }), { removed: 250 });
    assert.deepEqual(
      again.seen,
      Array.from({ length: 250 }, (_, i) => String(i)),
    );
    assert.equal(await one.count(one.queue), 250);
  });

  test("ends at a judge's failure; what was decided before is carried out", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await put(one, 5);
    const failure = new Error("no");
    for (const judge of [
      ({ messageId }) => {
        if (messageId === "2") throw failure;
        return "remove";
      },
      async ({ messageId }) => {
        if (messageId === "4") throw failure;
        return messageId === "3" ? "remove" : "leave";
      },
    ] satisfies Reading["judge"][]) {
      const result = await removeFrom(one.broker, { ...one, most: 5, judge });
      assert.equal(result.failure, failure);
    }
    await until("the others to be back", async () => (await one.count(one.queue)) === 2);
    assert.deepEqual(
      (await one.take(one.queue)).map(({ id }) => id),
      ["2", "4"],
    );
  });

  test("fails when its queue is deleted", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await put(one, 1);
    const judge = async () => {
      await one.delete(one.queue);
      return "leave" as const;
    };
    const { failure } = await removeFrom(one.broker, { ...one, most: 5, judge }).catch((error: unknown) => ({
      failure: error,
    }));
    assert.ok(failure !== undefined);
  });

  test("a socket error of a request is a loss of the connection, and a refusal of the broker is not", async () => {
    const reset = Object.assign(new Error("read ECONNRESET"), { code: "ECONNRESET", syscall: "read" });
    await assert.rejects(answered(Promise.reject(reset)), { reason: "EVENT_BUS_UNAVAILABLE" });
    const refusal = Object.assign(new Error("no such queue"), { code: "NOT_FOUND" });
    await assert.rejects(answered(Promise.reject(refusal)), refusal);
  });

  test("fails when the connection is lost, and has removed nothing", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await put(one, 3);
    const url = new URL(one.url);
    const proxy = await startTcpProxy({ host: url.hostname, port: Number(url.port || 5672) });
    t.after(() => proxy.close());
    url.host = `127.0.0.1:${proxy.port}`;
    const broker = await openBroker(url.href);
    t.after(() => broker.close(2_000));
    const judge = async () => {
      proxy.cut();
      await until("the loss to be known", () => !broker.isReady);
      return "remove" as const;
    };
    const { failure } = await removeFrom(broker, { ...one, most: 3, judge });
    assert.equal(reasonOf(failure), "EVENT_BUS_UNAVAILABLE");
    await assert.rejects(broker.channel(), { reason: "EVENT_BUS_UNAVAILABLE" });
    await until("all to be back", async () => (await one.count(one.queue)) === 3);
  });
});
