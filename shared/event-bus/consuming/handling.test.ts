import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import type { ConsumerGuard, GuardResult } from "../bus.ts";
import { type EventContext, withPrepare } from "../handler.ts";
import { type AnyHandler, createHandling, type Received } from "./handling.ts";

function received(name: string): Received {
  const envelope = {
    id: name,
    type: "testing.v1.Greeted",
    source: "test",
    timeMs: 0,
    key: "",
    routingKey: "testing.greeted",
    mustBeRouted: true,
    contentType: "application/protobuf",
    body: toBinary(GreetedSchema, create(GreetedSchema, { name, message: "" })),
    context: {},
  };
  return { envelope, attempt: 1, postponed: 0, unknownRounds: 0 };
}

function handlingOf(
  run: ConsumerGuard<object>["run"],
  handler: (event: unknown, context: EventContext) => unknown,
  handlerTimeoutMs = 60_000,
) {
  const guard: ConsumerGuard<object> = { batchSize: 10, ready: async () => {}, run };
  const handlers = { "testing.v1.Greeted": handler as AnyHandler };
  return createHandling({ queue: "q", events: [GreetedSchema], handlers, guard, handlerTimeoutMs });
}

const pendingTimers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;

test("a prepare step that fails during an outage of the guard is no failed attempt", async () => {
  const away: GuardResult = { kind: "unavailable", error: new Error("away") };
  const step = withPrepare({
    prepare: () => {
      throw new Error("the database is away");
    },
    handle: () => {},
  });
  const handling = handlingOf(async (_, messages) => messages.map(() => away), step);
  assert.deepEqual(await handling([received("Ada")]), [away]);
});

test("a prepare step's failure is the attempt's, and a copy of a handled event is a duplicate all the same", async () => {
  const failure = new Error("no");
  const step = withPrepare({
    prepare: () => {
      throw failure;
    },
    handle: () => assert.fail("not prepared"),
  });
  const trying = handlingOf(async (_, messages, work) => {
    const results: GuardResult[] = [];
    for (const message of messages) {
      const failed = work(message, {}).then(() => assert.fail("not failed"));
      results.push(await failed.catch((error: unknown) => ({ kind: "failed", error }) as const));
    }
    return results;
  }, step);
  assert.deepEqual(await trying([received("Ada")]), [{ kind: "failed", error: failure }]);
  const knowing = handlingOf(async (_, messages) => messages.map(() => ({ kind: "duplicate" })), step);
  assert.deepEqual(await knowing([received("Ada")]), [{ kind: "duplicate" }]);
});

test("the deadline of a prepared handler holds when its guard begins anew, and ends with the attempt", async () => {
  const before = pendingTimers();
  const step = withPrepare({ prepare: () => {}, handle: () => new Promise<void>(() => {}) });
  const twice = handlingOf(
    async (_, messages, work) => {
      const results: GuardResult[] = [];
      for (const message of messages) {
        await work(message, {}).catch(() => {});
        const failed = work(message, {}).then(() => assert.fail("not failed"));
        results.push(await failed.catch((error: unknown) => ({ kind: "failed", error }) as const));
      }
      return results;
    },
    step,
    20,
  );
  const [result] = await twice([received("Ada")]);
  assert.ok(result?.kind === "failed");
  assert.equal((result.error as { reason?: unknown }).reason, "EVENT_HANDLER_TIMEOUT");
  const dropping = handlingOf(async (_, messages) => messages.map(() => ({ kind: "duplicate" })), step);
  for (let n = 0; n < 20; n++) await dropping([received("Ada")]);
  assert.equal(pendingTimers(), before);
});
