// What makes events that are in this process's memory alone survive it: they leave the outbox when they have had their
// first attempt, and not before.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createReadiness } from "#shared/lifecycle";
import { silent, until } from "#shared/testing";
import { rabbitmqSection } from "../config.ts";
import { createEnvelope } from "../envelope.ts";
import { eventTypeOf } from "../event-type.ts";
import { createInProcessBroker } from "./broker.ts";
import { createInProcessBus } from "./bus.ts";

const envelope = createEnvelope(
  eventTypeOf(GreetedSchema),
  { name: "Ada", message: "" },
  { source: "test", encoding: "protobuf" },
);

async function start(t: TestContext, handle: () => Promise<void> | void) {
  const broker = createInProcessBroker();
  const config = rabbitmqSection.parse({
    exchange: "test",
    queue: "test",
    handler_timeout: "1s",
    retry: { delays: ["1h"] },
  });
  const bus = createInProcessBus({ config, source: "test", broker, logger: silent, readiness: createReadiness() });
  const consumer = bus.consume({ events: [GreetedSchema], handlers: { "testing.v1.Greeted": handle } });
  t.after(() => broker.close());
  t.after(() => bus.close());
  await bus.start();
  return { bus, consumer, broker };
}

/** Whether the promise has settled by the time that all else has had its turn. */
async function isSettled(work: Promise<unknown>): Promise<boolean> {
  const pending = Symbol("pending");
  await new Promise((resolve) => setImmediate(resolve));
  return (await Promise.race([work, Promise.resolve(pending)])) !== pending;
}

test("an event is sent when its first attempt has succeeded", async (t) => {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const { bus, consumer } = await start(t, () => gate);
  await assert.rejects(bus.send(envelope), { reason: "EVENT_NOT_CONSUMED" }, "without a consumer");
  await consumer.start();
  const sending = bus.send(envelope);
  await until("it to be handled", () => bus.states().consumers[0]?.waiting === 1);
  assert.equal(await isSettled(sending), false, "the handler runs");
  open();
  await sending;
});

test("an event is sent when its first attempt has failed: it is tried again from memory", async (t) => {
  const { bus, consumer, broker } = await start(t, () => {
    throw new Error("no");
  });
  await consumer.start();
  await bus.send(envelope);
  assert.equal(bus.states().consumers[0]?.counts.retried, 1);
  assert.equal(broker.close(), 1, "one is lost with the process");
});

test("an event that had no attempt is not sent when its consumer closes, nor when its sender gives up", async (t) => {
  const { bus, consumer, broker } = await start(t, () => new Promise(() => {}));
  await consumer.start();
  const giveUp = new AbortController();
  const abandoned = bus.send(envelope, giveUp.signal);
  const reason = new Error("the relay is stopped");
  giveUp.abort(reason);
  await assert.rejects(abandoned, reason);
  const sends = Array.from({ length: 20 }, () => bus.send(envelope));
  const outcomes = Promise.allSettled(sends);
  await consumer.close(AbortSignal.abort());
  assert.equal(broker.close(), 0, "what is not begun is still its sender's");
  await bus.close();
  for (const outcome of await outcomes) {
    assert.ok(outcome.status === "rejected");
    // Those whose handler runs end with their bus, the others with their consumer.
    assert.match(outcome.reason.reason, /^EVENT_(NOT_CONSUMED|BUS_UNAVAILABLE)$/);
  }
});

test("a published event is not waited for: its publisher may be the handler that it waits for", async (t) => {
  const { bus } = await start(t, () => {});
  await bus.publish(GreetedSchema, { name: "Ada", message: "" });
});
