import assert from "node:assert/strict";
import { test } from "node:test";
import { CountedSchema, RegisteredSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { rabbitmqForTest } from "#shared/testing";
import { queueForTest } from "./test-support.ts";
import { topologyReport } from "./topology-report.ts";

test("what a consumer has declared is ok, with its messages and consumers", async (t) => {
  const one = await queueForTest(t, await rabbitmqForTest(t));
  if (one === undefined) return;
  await one.declare();
  await one.put(one.queue, {});
  await one.put(one.deadLetterQueue, {});
  await one.put(one.deadLetterQueue, {});
  const channel = await one.broker.channel();
  await channel.basicConsume({ queue: `${one.queue}.retry.1s` }, () => {});
  const { exchange, queues } = await topologyReport(one.broker, { config: one.config, handles: [] });
  await channel.close();
  assert.deepEqual(exchange.standing, { state: "ok" });
  assert.deepEqual(
    queues.map(({ name, role, standing, messages, consumers }) => [name, role, standing.state, messages, consumers]),
    [
      [one.queue, "work", "ok", 1, 0],
      [`${one.queue}.retry.1s`, "retry", "ok", 0, 1],
      [one.deadLetterQueue, "dead letters", "ok", 2, 0],
    ],
  );
  assert.equal(queues[0]?.arguments["x-delivery-limit"], one.config.deliveryLimit);
});

test("what is not there is missing, and is not made", async (t) => {
  const one = await queueForTest(t, await rabbitmqForTest(t));
  if (one === undefined) return;
  for (let i = 0; i < 2; i++) {
    const { exchange, queues } = await topologyReport(one.broker, { config: one.config, handles: [] });
    assert.deepEqual(exchange.standing, { state: "missing" });
    assert.equal(queues.length, 3);
    for (const { standing, messages } of queues) assert.deepEqual([standing, messages], [{ state: "missing" }, null]);
  }
});

test("what differs does so in the broker's own words", async (t) => {
  const one = await queueForTest(t, await rabbitmqForTest(t));
  if (one === undefined) return;
  await one.declare();
  await one.put(one.queue, {});
  const config = { ...one.config, deliveryLimit: 7, exchangeType: "fanout" } as const;
  const { exchange, queues } = await topologyReport(one.broker, { config, handles: [] });
  assert.ok(exchange.standing.state === "differs");
  assert.match(exchange.standing.said, /inequivalent arg 'type'/);
  const [work, retry, dead] = queues;
  assert.ok(work?.standing.state === "differs");
  assert.match(work.standing.said, /inequivalent arg 'x-delivery-limit'/);
  assert.equal(work.messages, 1);
  assert.deepEqual([retry?.standing.state, dead?.standing.state], ["ok", "ok"]);
});

test("another connection's own queue cannot be looked at", async (t) => {
  const one = await queueForTest(t, await rabbitmqForTest(t));
  const other = await queueForTest(t, await rabbitmqForTest(t));
  if (one === undefined || other === undefined) return;
  const channel = await other.broker.channel();
  await channel.queueDeclare({ queue: one.queue, exclusive: true });
  const { queues } = await topologyReport(one.broker, { config: one.config, handles: [] });
  await channel.close();
  assert.equal(queues[0]?.standing.state, "refused");
});

test("bindings are the configured key, and those of handled events that it does not take", async (t) => {
  const one = await queueForTest(t, await rabbitmqForTest(t), { routing_key: "testing.registered.#" });
  if (one === undefined) return;
  const handles = [RegisteredSchema, CountedSchema];
  const { bindings } = await topologyReport(one.broker, { config: one.config, handles });
  const { exchange } = one.config;
  assert.deepEqual(
    bindings,
    ["testing.registered.#", "testing.counted"].map((routingKey) => ({ exchange, queue: one.queue, routingKey })),
  );
});
