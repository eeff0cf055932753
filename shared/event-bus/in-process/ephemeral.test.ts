import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createReadiness } from "#shared/lifecycle";
import { silent, within } from "#shared/testing";
import { createEventBus, createInProcessBroker, type EventEnvelope, rabbitmqSection } from "../index.ts";

const envelope = (id: string): EventEnvelope => ({
  id,
  type: GreetedSchema.typeName,
  source: "test",
  timeMs: Date.now(),
  key: "",
  routingKey: "testing.greeted",
  mustBeRouted: false,
  contentType: "application/protobuf",
  body: toBinary(GreetedSchema, create(GreetedSchema, { name: id })),
  context: {},
});

test("an ephemeral queue that goes leaves nobody waiting for what it had not handled", async (t) => {
  const broker = createInProcessBroker();
  t.after(() => broker.close());
  const config = rabbitmqSection.parse({ exchange: "shop", queue: "shop", concurrency: 1 });
  const busOf = () => createEventBus({ config, source: "test", logger: silent, readiness: createReadiness(), broker });
  const [replica, other] = [busOf(), busOf()];
  const handled: string[] = [];
  const first = Promise.withResolvers<void>();
  const consumer = replica.consume({
    events: [GreetedSchema],
    ephemeral: true,
    handlers: {
      async "testing.v1.Greeted"({ name }) {
        handled.push(name);
        await first.promise;
      },
    },
  });
  await consumer.start();
  const sends = ["1", "2", "3"].map((id) => other.send(envelope(id)));
  const closed = consumer.close();
  first.resolve();
  const outcomes = Promise.allSettled(sends);
  await within(Promise.all([closed, outcomes]), "the sends");
  assert.deepEqual(
    (await outcomes).map((outcome) => (outcome.status === "rejected" ? outcome.reason.reason : outcome.status)),
    ["fulfilled", "EVENT_NOT_CONSUMED", "EVENT_NOT_CONSUMED"],
  );
  assert.deepEqual(handled, ["1"]);
  await Promise.all([replica.close(), other.close()]);
});
