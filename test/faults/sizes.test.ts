// Sizes that the broker, a frame or the link cannot take: they cost the event alone.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createClient, createEventBus, type EventBus, rabbitmqSection } from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { silent, until, within } from "#shared/testing";
import { type PrivateBroker, privateBrokerForTest } from "../support/private-broker.ts";

const TYPE = "testing.v1.Greeted";

async function startBus(t: TestContext, broker: PrivateBroker, handle: (name: string) => void): Promise<EventBus> {
  const config = rabbitmqSection.parse({ url: broker.url, exchange: "x", queue: "q", retry: { delays: ["100ms"] } });
  const bus = createEventBus({ config, source: "sizes", logger: silent, readiness: createReadiness() });
  t.after(() => bus.close());
  const consumer = bus.consume({ events: [GreetedSchema], handlers: { [TYPE]: ({ name }) => handle(name) } });
  await bus.start();
  await consumer.start();
  await until("it to consume", () => bus.states().consumers[0]?.state === "consuming");
  return bus;
}

/** Sets one of RabbitMQ's own settings for connections and channels that are opened from now on. */
async function configure(broker: PrivateBroker, name: string, value: number): Promise<void> {
  const set = `application:set_env(rabbit, ${name}, ${value}), persistent_term:put(${name}, ${value}).`;
  await broker.ctl("eval", set); // RabbitMQ 4 reads some of them from persistent terms.
}

test("37: with a negotiated frame of 65,536 bytes, bodies and headers of any size go both ways", async (t) => {
  const broker = await privateBrokerForTest(t);
  if (broker === undefined) return;
  await configure(broker, "frame_max", 65_536);
  const handled: string[] = [];
  let fails = true;
  const bus = await startBus(t, broker, (name) => {
    if (name === "headers" && fails) throw new Error("x".repeat(10_000));
    handled.push(name);
  });
  for (const size of [0, 65_000, 65_528, 65_536, 131_072, 200_000, 1_000_000]) {
    await within(bus.publish(GreetedSchema, { name: `n-${size}`, message: "m".repeat(size) }), `${size} bytes`);
  }
  await until("all to be handled", () => handled.length === 7);
  assert.equal(new Set(handled).size, 7);

  const rabbit = createClient({ url: broker.url });
  rabbit.on("error", () => {});
  t.after(() => rabbit.unsafeDestroy());
  const channel = await rabbit.acquire();
  await channel.confirmSelect();
  const headers = { filler: "f".repeat(65_000), small: "s", "cloudEvents:source": "other" };
  const body = Buffer.from('{"name":"headers","message":""}');
  const envelope = {
    exchange: "x",
    routingKey: "testing.greeted",
    type: TYPE,
    contentType: "application/json",
    headers,
  };
  await channel.basicPublish({ ...envelope, messageId: "h-1", durable: true }, body);
  await until(
    "a dead letter",
    async () => (await channel.queueDeclare({ queue: "q.dead", passive: true })).messageCount === 1,
  );
  const dead = await channel.basicGet({ queue: "q.dead", noAck: true });
  assert.deepEqual(dead?.body, body);
  assert.equal(dead?.headers?.["small"], "s");
  assert.equal(dead?.headers?.["x-headers-shortened"], 1);
  assert.equal(dead?.headers?.["x-dead-letter-reason"], "attempts_exhausted");
  // Attributes of the event cannot be left out: only the broker can move such a message.
  const attributes = { "cloudEvents:filler": "f".repeat(65_300) };
  await channel.basicPublish({ ...envelope, headers: attributes, messageId: "h-2", durable: true }, body);
  let rejected: Awaited<ReturnType<typeof channel.basicGet>>;
  await until("a dead letter by the broker", async () => {
    rejected = await channel.basicGet({ queue: "q.dead", noAck: true });
    return rejected !== undefined;
  });
  assert.deepEqual([rejected?.messageId, rejected?.body], ["h-2", body]);
  const [latest] = (rejected?.headers?.["x-death"] ?? []) as readonly { readonly reason: string }[];
  assert.equal(latest?.reason, "rejected");
  assert.equal(rejected?.headers?.["cloudEvents:filler"], attributes["cloudEvents:filler"]);
  fails = false;
  await bus.publish(GreetedSchema, { name: "after", message: "" });
  await until("others to be handled", () => handled.includes("after"));
});

test("37: a size that the broker refuses fails that event, and costs no other event for long", async (t) => {
  const broker = await privateBrokerForTest(t);
  if (broker === undefined) return;
  await configure(broker, "max_message_size", 1_000_000);
  const handled: string[] = [];
  const bus = await startBus(t, broker, (name) => handled.push(name));
  const large = { name: "large", message: "m".repeat(2_000_000) };
  for (let round = 0; round < 3; round++) {
    const refused = assert.rejects(bus.publish(GreetedSchema, large), { reason: "EVENT_TOO_LARGE" });
    const others = Array.from({ length: 20 }, (_, n) =>
      bus.publish(GreetedSchema, { name: `${round}-${n}`, message: "" }),
    );
    const outcomes = await within(Promise.allSettled(others), "the others");
    await within(refused, "a refusal");
    // The first time the broker closes the channel, with what was on it. From then on its limit is known.
    const failed = outcomes.filter(({ status }) => status === "rejected");
    if (round > 0) assert.equal(failed.length, 0, String((failed[0] as PromiseRejectedResult | undefined)?.reason));
    for (const one of failed) assert.equal((one as PromiseRejectedResult).reason.reason, "EVENT_BUS_UNAVAILABLE");
  }
  await bus.publish(GreetedSchema, { name: "fits", message: "m".repeat(900_000) });
  await until("what fits", () => handled.includes("fits") && handled.includes("2-19"));
});
