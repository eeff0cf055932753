import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { Connection, type Envelope } from "rabbitmq-client";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createReadiness } from "#shared/lifecycle";
import { closeAfter, rabbitmqForTest, silent, until } from "#shared/testing";
import { createEventBus, rabbitmqSection } from "../index.ts";

const EVENT = { type: "testing.v1.Greeted", contentType: "application/protobuf", durable: true };
const body = Buffer.from(toBinary(GreetedSchema, create(GreetedSchema, { name: "Ada", message: "" })));

/** As the broker leaves a message that was in memory of too many processes that ended. */
function brokersDeadLetter(queue: string, exchange: string): Envelope {
  const death = { reason: "delivery_limit", queue, exchange, "routing-keys": ["testing.greeted"], count: 1 };
  return { ...EVENT, routingKey: `${queue}.dead`, headers: { "x-death": [death] } };
}

async function enter(t: TestContext, yaml: Readonly<Record<string, unknown>> = {}) {
  const rabbitmq = await rabbitmqForTest(t);
  if (rabbitmq === undefined) return undefined;
  const suffixes = [".dead", ".suspects", ".types", ".retry.50ms"];
  const [exchange, queue] = [rabbitmq.name("exchange"), rabbitmq.name("queue", ...suffixes)];
  const config = rabbitmqSection.parse({
    url: rabbitmq.url,
    exchange,
    queue,
    retry: { delays: ["50ms"] },
    topology_check_interval: "100ms",
    ...yaml,
  });
  const bus = createEventBus({ config, source: "test", logger: silent, readiness: createReadiness() });
  closeAfter(t, () => bus.close());
  let handled = 0;
  const consumer = bus.consume({
    events: [GreetedSchema],
    handlers: {
      "testing.v1.Greeted": () => {
        handled++;
      },
    },
  });
  await bus.start();
  const rabbit = new Connection({ url: rabbitmq.url });
  rabbit.on("error", () => {}); // What matters rejects.
  closeAfter(t, () => rabbit.close());
  const publisher = rabbit.createPublisher({ confirm: true });
  closeAfter(t, () => publisher.close());
  const countOf = async (name: string) => (await rabbit.queueDeclare({ queue: name, passive: true })).messageCount;
  const counts = () => bus.states().consumers[0]!.counts;
  return { exchange, queue, consumer, publisher, countOf, counts, handled: () => handled };
}

test("a dead letter that cannot be put back because the queue is full does not keep the queue from being consumed", async (t) => {
  const world = await enter(t, { max_length: 1 });
  if (world === undefined) return;
  const { exchange, queue, consumer, publisher, counts } = world;
  await publisher.send({ ...EVENT, routingKey: queue, messageId: "waits" }, body);
  await publisher.send({ ...brokersDeadLetter(queue, exchange), messageId: "dead" }, body);
  await consumer.start();
  await until("both to be handled", () => world.handled() === 2);
  await until("it to be counted", () => counts().putBack === 1);
});

test("an innocent dead letter is found behind a thousand others, and those stay", async (t) => {
  const world = await enter(t);
  if (world === undefined) return;
  const { exchange, queue, consumer, publisher, countOf, counts } = world;
  const other = { ...EVENT, routingKey: `${queue}.dead`, headers: { "x-dead-letter-reason": "rejected" } };
  await Promise.all(Array.from({ length: 1_000 }, (_, n) => publisher.send({ ...other, messageId: `o-${n}` }, body)));
  await publisher.send({ ...brokersDeadLetter(queue, exchange), messageId: "dead" }, body);
  await consumer.start();
  await until("it to be handled", () => world.handled() === 1);
  await until("it to be counted", () => counts().putBack === 1);
  await until("the others to be back", async () => (await countOf(`${queue}.dead`)) === 1_000);
});

test("what is put back has the routing key under which it was published", async (t) => {
  const world = await enter(t, { routing_key: "testing.#", ignore_unknown: true });
  if (world === undefined) return;
  const { exchange, queue, consumer, publisher, countOf, counts } = world;
  const unknown = { ...brokersDeadLetter(queue, exchange), type: "testing.v2.Greeted", messageId: "unknown" };
  await publisher.send(unknown, body);
  await consumer.start();
  // A handler has the routing key, so that the message is not ignored.
  await until("the dead letter", () => counts().deadLettered === 1);
  assert.deepEqual([counts().putBack, counts().ignored], [1, 0]);
  await until("it to be there", async () => (await countOf(`${queue}.dead`)) === 1);
});
