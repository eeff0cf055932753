// The broker that fault tests torment: what they rely on.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Connection } from "rabbitmq-client";
import { until, within } from "#shared/testing";
import { type PrivateBroker, privateBrokerForTest } from "../support/private-broker.ts";

const quorum = { durable: true, arguments: { "x-queue-type": "quorum" } } as const;

function connect(t: TestContext, broker: PrivateBroker): Connection {
  const connection = new Connection({ url: broker.url, retryLow: 50, retryHigh: 100 });
  connection.on("error", () => {}); // The broker is killed.
  t.after(() => connection.unsafeDestroy());
  return connection;
}

test("a confirmed message is there after the broker was killed", async (t) => {
  const broker = await privateBrokerForTest(t);
  if (broker === undefined) return;
  const connection = connect(t, broker);
  const publisher = connection.createPublisher({ confirm: true, queues: [{ queue: "kept", ...quorum }] });
  const publish = (text: string) => publisher.send({ routingKey: "kept", durable: true }, Buffer.from(text));
  await within(publish("first"), "a confirmation");
  await broker.settled();
  await within(publish("second"), "a confirmation");
  await broker.kill();
  await until("the connection to be lost", () => !connection.ready);
  await broker.start();
  for (const text of ["first", "second"]) {
    const message = await within(connection.basicGet({ queue: "kept", noAck: true }), "a message");
    assert.equal(String(message?.body), text);
  }
});

test("a memory alarm blocks who publishes, until it is lifted", async (t) => {
  const broker = await privateBrokerForTest(t);
  if (broker === undefined) return;
  const connection = connect(t, broker);
  const watching = connect(t, broker);
  const events: string[] = [];
  connection.on("connection.blocked", () => events.push("blocked"));
  connection.on("connection.unblocked", () => events.push("unblocked"));
  const publisher = connection.createPublisher({ confirm: true, queues: [{ queue: "blocked", ...quorum }] });
  const publish = () => publisher.send({ routingKey: "blocked", durable: true }, Buffer.from("message"));
  await within(publish(), "a confirmation");

  await broker.ctl("set_vm_memory_high_watermark", "0.00001");
  // A connection is blocked when it publishes, not before.
  const sent = [publish()];
  await until("the connection to be blocked", () => events.length === 1);
  let confirmed = false;
  sent.push(
    publish().then(() => {
      confirmed = true;
    }),
  );
  assert.match(await broker.ctl("list_queues", "name", "type"), /^blocked\tquorum$/m);
  const { messageCount } = await within(watching.queueDeclare({ queue: "blocked", passive: true }), "the queue");
  assert.ok(messageCount <= 2, `${messageCount} messages`);
  assert.equal(confirmed, false);

  await broker.ctl("set_vm_memory_high_watermark", "0.4");
  await within(Promise.all(sent), "the confirmations");
  assert.deepEqual(events, ["blocked", "unblocked"]);
});
