import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createReadiness } from "#shared/lifecycle";
import { type LogLine, rabbitmqForTest, recordLog, until, within } from "#shared/testing";
import { rabbitmqSection } from "../config.ts";
import { createEventBus } from "../create-event-bus.ts";
import { createClient } from "./client-workarounds.ts";

async function worldFor(t: TestContext, rabbitmq: Readonly<Record<string, unknown>> = {}, ephemeral = false) {
  const broker = await rabbitmqForTest(t);
  if (broker === undefined) return undefined;
  const exchange = broker.name("x");
  const queue = broker.name("q", ".dead", ".retry.100ms");
  const config = rabbitmqSection.parse({
    ...{ url: broker.url, exchange, queue, retry: { delays: ["100ms"] }, topology_check_interval: "200ms" },
    ...rabbitmq,
  });
  const log = recordLog();
  const readiness = createReadiness();
  const bus = createEventBus({ config, source: "checked", logger: log.logger, readiness });
  t.after(() => bus.close());
  const handled: string[] = [];
  const handlers = { "testing.v1.Greeted": ({ name }: { readonly name: string }) => void handled.push(name) };
  const consumer = bus.consume({ events: [GreetedSchema], handlers, ephemeral });
  await bus.start();
  await consumer.start();
  await until("it to consume", () => bus.states().consumers[0]?.state === "consuming");
  const rabbit = createClient({ url: broker.url });
  rabbit.on("error", () => {});
  t.after(() => rabbit.unsafeDestroy());
  const channel = await within(rabbit.acquire({ emitErrorsFromChannel: true }), "a channel");
  channel.on("error", () => {});
  let published = 0;
  /** Publishes until an event is handled: what is published while the binding is gone may be lost. */
  async function flows(): Promise<void> {
    await until("an event to be handled", async () => {
      const name = `n-${published++}`;
      await bus.publish(GreetedSchema, { name, message: "" }).catch(() => {});
      return handled.includes(name);
    });
  }
  const component = () => readiness.state().components.find(({ name }) => name === "event bus");
  return { bus, rabbit, channel, exchange, queue, flows, component, lines: (): readonly LogLine[] => log.lines };
}

for (const ephemeral of [false, true])
  test(`an exchange that is deleted is declared again, and the ${ephemeral ? "ephemeral" : "durable"} queue is bound to it`, async (t) => {
    const world = await worldFor(t, {}, ephemeral);
    if (world === undefined) return;
    const { rabbit, channel, exchange, flows, component } = world;
    await flows();
    await channel.exchangeDelete({ exchange });
    const isThere = () =>
      rabbit.exchangeDeclare({ exchange, passive: true }).then(
        () => true,
        () => false,
      );
    await until("the exchange", isThere);
    await flows();
    assert.equal(component()?.ready, true);
  });

test("a binding that is deleted is made again", async (t) => {
  const world = await worldFor(t);
  if (world === undefined) return;
  const { channel, exchange, queue, flows } = world;
  await flows();
  await channel.queueUnbind({ exchange, queue, routingKey: "testing.greeted" });
  await flows();
});

test("a queue that is declared again otherwise makes the bus not ready with the broker's words, in one log line, until it is gone", async (t) => {
  const world = await worldFor(t);
  if (world === undefined) return;
  const { rabbit, queue, flows, component, lines } = world;
  await flows();
  const retry = `${queue}.retry.100ms`;
  await until("another queue", async () => {
    await rabbit.queueDelete({ queue: retry });
    const declared = rabbit.queueDeclare({ queue: retry, durable: true, arguments: { "x-queue-type": "classic" } });
    // A check may come in between.
    return declared.then(
      () => true,
      () => false,
    );
  });
  await until("it not to be ready", () => component()?.ready === false);
  assert.match(component()?.reason ?? "", /inequivalent arg '.+' for queue '.+\.retry\.100ms'/);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  assert.equal(lines().filter(({ msg }) => /cannot be used/.test(String(msg))).length, 1);
  await rabbit.queueDelete({ queue: retry });
  await until("it to be ready", () => component()?.ready === true);
  await flows();
});

test("with an interval of 0 nothing is checked", async (t) => {
  const world = await worldFor(t, { topology_check_interval: "0s" });
  if (world === undefined) return;
  const { channel, queue } = world;
  await channel.queueDelete({ queue: `${queue}.dead` });
  await new Promise((resolve) => setTimeout(resolve, 500));
  await assert.rejects(channel.queueDeclare({ queue: `${queue}.dead`, passive: true }), { code: "NOT_FOUND" });
});
