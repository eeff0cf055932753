import assert from "node:assert/strict";
import { test } from "node:test";
import { type Greeted, GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { isInEmbeddedTransaction, runInEmbeddedTransaction } from "#shared/call-context";
import { createReadiness } from "#shared/lifecycle";
import { databaseForTest, silent, until } from "#shared/testing";
import { createEventBus, createInbox, inboxMigration, rabbitmqSection, withPrepare } from "../index.ts";

test("on an embedded database a handler's transaction is known to its calls, and its step before is outside of it", async (t) => {
  const { db } = await databaseForTest<Record<never, never>>(t, { migrations: { "001_inbox": inboxMigration } });
  const config = rabbitmqSection.parse({ exchange: "e", queue: "q" });
  const bus = createEventBus({ config, source: "test", logger: silent, readiness: createReadiness() });
  t.after(() => bus.close());
  const seen: boolean[] = [];
  const consumer = bus.consume({
    events: [GreetedSchema],
    guard: createInbox({ db, logger: silent }),
    handlers: {
      "testing.v1.Greeted": withPrepare({
        prepare: (_: Greeted) => void seen.push(isInEmbeddedTransaction()),
        handle: async () => {
          // Also after a wait.
          await Promise.resolve();
          seen.push(isInEmbeddedTransaction());
        },
      }),
    },
  });
  await bus.start();
  await consumer.start();
  // The publisher's own transaction is not the handler's.
  await runInEmbeddedTransaction(async () => {
    await bus.publish(GreetedSchema, { name: "Ada", message: "" });
    await until("the event", () => seen.length > 0);
  });
  await until("its handler", () => seen.length === 2);
  assert.deepEqual(seen, [false, true]);
});
