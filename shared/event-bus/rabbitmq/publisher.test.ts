import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Channel, Envelope } from "rabbitmq-client";
import { type RabbitmqForTest, rabbitmqForTest, silent, startTcpProxy, until, within } from "#shared/testing";
import { type BrokerConnection, openConnection } from "./connection.ts";
import { createPublisher, type Publisher, type PublisherOptions } from "./publisher.ts";
import { createSplitPublisher } from "./split-publisher.ts";

interface World {
  readonly publisher: Publisher;
  readonly connection: BrokerConnection;
  readonly exchange: string;
  readonly channels: readonly Channel[];
  send(body: Buffer, envelope?: Envelope): Promise<void>;
}

const MIB = 1024 * 1024;

async function worldFor(
  t: TestContext,
  broker: RabbitmqForTest,
  url: string,
  timeoutMs = 5_000,
  create: (options: PublisherOptions) => Publisher = createPublisher,
): Promise<World> {
  const config = { url, connectTimeoutMs: 5_000, heartbeatMs: 1_000 };
  const connection = openConnection({ name: "publish", config, source: "test", logger: silent });
  const [exchange, queue] = [broker.name("x"), broker.name("q")];
  const channels: Channel[] = [];
  const publisher = create({
    connection,
    timeoutMs,
    async prepare(channel) {
      channels.push(channel);
      await channel.exchangeDeclare({ exchange, type: "topic" });
      await channel.queueDeclare({ queue, exclusive: true });
      await channel.queueBind({ exchange, queue, routingKey: "#" });
    },
  });
  t.after(async () => {
    await publisher.close(1_000);
    await connection.close(1_000);
  });
  let sent = 0;
  const send = (body: Buffer, envelope: Envelope = {}) =>
    publisher.send({ exchange, routingKey: "k", mandatory: true, messageId: `m-${sent++}`, ...envelope }, body);
  await send(Buffer.from("warm"));
  return { publisher, connection, exchange, channels, send };
}

/** A way to the broker that carries so many bytes a second, towards the broker. */
async function slowLink(t: TestContext, url: string, bytesPerSecond: number): Promise<string> {
  const broker = new URL(url);
  const server = net.createServer((client) => {
    const up = net.connect(Number(broker.port || 5672), broker.hostname);
    t.after(() => {
      client.destroy();
      up.destroy();
    });
    for (const socket of [client, up]) socket.on("error", () => {});
    client.once("close", () => up.destroy());
    up.once("close", () => client.destroy());
    up.pipe(client);
    client.on("data", (chunk) => {
      client.pause();
      up.write(chunk);
      setTimeout(() => client.resume(), (chunk.length / bytesPerSecond) * 1_000);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const slow = new URL(url);
  slow.port = String((server.address() as net.AddressInfo).port);
  return slow.href;
}

test("an event whose headers exceed a frame is refused before it is written, and others are confirmed meanwhile", async (t) => {
  const broker = await rabbitmqForTest(t);
  if (broker === undefined) return;
  const { send, channels } = await worldFor(t, broker, broker.url);
  const body = Buffer.from("body");
  const others = Array.from({ length: 50 }, () => send(body));
  for (const name of ["tracestate", "x".repeat(200)]) {
    const headers = { [name]: "é".repeat(66_000) };
    await assert.rejects(send(body, { headers }), { reason: "EVENT_TOO_LARGE" });
  }
  await within(Promise.all(others), "the others");
  await within(send(body, { headers: { tracestate: "t".repeat(130_000) } }), "headers that just fit");
  assert.equal(channels.length, 1);
});

test("an exchange that was deleted is declared again, and what is sent again arrives", async (t) => {
  const broker = await rabbitmqForTest(t);
  if (broker === undefined) return;
  const { send, connection, exchange } = await worldFor(t, broker, broker.url);
  const other = await connection.channel();
  await other.exchangeDelete({ exchange });
  await other.close();
  await assert.rejects(send(Buffer.from("lost")), { reason: "EVENT_BUS_UNAVAILABLE" });
  await within(send(Buffer.from("again")), "a confirmation");
});

test("a large event gets over a slow link although that takes longer than the timeout, and small ones behind it wait", async (t) => {
  const broker = await rabbitmqForTest(t);
  if (broker === undefined) return;
  const { send, channels } = await worldFor(t, broker, await slowLink(t, broker.url, 2 * MIB), 1_500);
  const large = send(Buffer.alloc(5 * MIB));
  await delay(50);
  const small = Array.from({ length: 5 }, () => send(Buffer.from("small")));
  await within(Promise.all([large, ...small]), "all to be confirmed");
  assert.equal(channels.length, 1);
});

test("small events pass a large one on a slow link", async (t) => {
  const broker = await rabbitmqForTest(t);
  if (broker === undefined) return;
  const link = await slowLink(t, broker.url, 4 * MIB);
  const { send } = await worldFor(t, broker, link, 1_500, createSplitPublisher);
  const order: string[] = [];
  const large = send(Buffer.alloc(15 * MIB)).then(() => order.push("large"));
  await delay(50);
  // It still waits for what the sockets have in their buffers, some MiB.
  await within(send(Buffer.from("small")), "a small event").then(() => order.push("small"));
  await within(large, "the large event");
  assert.deepEqual(order, ["small", "large"]);
});

test("an event that the link is too slow for is told apart from a link that is silent", async (t) => {
  const broker = await rabbitmqForTest(t);
  if (broker === undefined) return;
  const slow = await worldFor(t, broker, await slowLink(t, broker.url, MIB / 4), 1_500);
  await assert.rejects(slow.send(Buffer.alloc(2 * MIB)), { reason: "EVENT_NOT_CONFIRMED" });

  const proxy = await startTcpProxy({ port: Number(new URL(broker.url).port || 5672) });
  t.after(() => proxy.close());
  const url = new URL(broker.url);
  url.port = String(proxy.port);
  const stalled = await worldFor(t, broker, url.href, 1_000);
  proxy.stall();
  // What was on its way to this side is still to come.
  await delay(100);
  await assert.rejects(stalled.send(Buffer.alloc(MIB)), { reason: "EVENT_BUS_UNAVAILABLE" });
  proxy.resume();
  await until("it to be ready again", () => stalled.connection.isReady);
});
