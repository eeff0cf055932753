import assert from "node:assert/strict";
import { createRequire } from "node:module";
import type { Writable } from "node:stream";
import { type TestContext, test } from "node:test";
import { type AsyncMessage, type Channel, Connection, type Envelope } from "rabbitmq-client";
import { type RabbitmqForTest, rabbitmqForTest, until, within } from "#shared/testing";
import { HEADERS } from "./amqp-message.ts";
import {
  type Confirmation,
  contentHeaderOf,
  createClient,
  createWriteTogether,
  frameMaxOf,
  publish,
  withContentHeader,
} from "./client-workarounds.ts";
import { headersTableOf, movedContentHeader } from "./content-header.ts";
import { encodeField, fieldsOf } from "./field-table.ts";
import { readdressed } from "./readdressed.ts";

/** Class 60, weight 0, no size, no properties. */
const NO_PROPERTIES = Buffer.from("003c000000000000000000000000", "hex");

function field(name: string, type: string, hex: string): Buffer {
  return Buffer.concat([Buffer.of(name.length), Buffer.from(name), Buffer.from(type), Buffer.from(hex, "hex")]);
}

function nested(levels: number): Buffer {
  let table = field("end", "I", "00000001");
  for (let level = 0; level < levels; level++) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(table.length);
    table = Buffer.concat([Buffer.of(1), Buffer.from("tF"), length, table]);
  }
  return table;
}

/** A field of each type that RabbitMQ knows, with values that rabbitmq-client does not encode as they came. */
const ODD = Buffer.concat([
  field("nothing", "V", ""),
  field("bool", "t", "01"),
  field("int8", "b", "fb"),
  field("uint8", "B", "fb"),
  field("int16", "s", "fe0c"),
  field("uint16", "u", "fe0c"),
  field("int32", "I", "00000007"),
  field("uint32", "i", "ee6b2800"),
  field("int64", "l", "7fffffffffffffff"),
  field("float", "f", "3fc00000"),
  field("double", "d", "4008000000000000"),
  field("decimal", "D", "02000007cf"),
  field("timestamp", "T", "0000000065538900"),
  field("bytes", "x", "00000003fffe00"),
  field("text", "S", "00000002c328"),
  field("array", "A", "0000000462016205"),
  field("table", "F", "0000000b0162530000000401020304"),
  field("__proto__", "t", "00"),
]);

interface World {
  readonly channel: Channel;
  readonly broker: RabbitmqForTest;
  readonly rabbit: Connection;
}

async function channelFor(t: TestContext): Promise<World | undefined> {
  const broker = await rabbitmqForTest(t);
  if (broker === undefined) return undefined;
  const rabbit = createClient({ url: broker.url }, () => assert.fail("this version of rabbitmq-client is not known"));
  rabbit.on("error", () => {});
  t.after(() => rabbit.unsafeDestroy());
  const channel = await within(rabbit.acquire(), "a channel");
  await channel.confirmSelect();
  return { channel, broker, rabbit };
}

/** The client goes on as before. */
function changeInside(t: TestContext): void {
  const acquire = Connection.prototype.acquire;
  t.mock.method(Connection.prototype, "acquire", async function (this: Connection) {
    const channel = await acquire.call(this);
    // The client itself does not read it.
    const { _state: state } = channel as unknown as { readonly _state: { readonly stream: Writable } };
    Object.defineProperty(state.stream, "writableLength", { value: undefined });
    return channel;
  });
}

async function stored(channel: Channel, envelope: Envelope, body: Buffer): Promise<void> {
  assert.deepEqual(await outcomesOf(channel, [{ envelope, body }]), ["stored"]);
}

/** Publishes on a channel in confirm mode. @returns what came of each message */
function outcomesOf(channel: Channel, messages: readonly { envelope: Envelope; body: Buffer }[]): Promise<string[]> {
  return Promise.all(
    messages.map(({ envelope, body }) => {
      const { promise, resolve } = Promise.withResolvers<string>();
      const confirmation: Confirmation = {
        envelope,
        returned: false,
        resolve: () => resolve(confirmation.returned ? "returned" : "stored"),
        reject: () => resolve("refused"),
      };
      publish(channel, body, confirmation);
      return promise;
    }),
  );
}

async function got(channel: Channel, queue: string): Promise<AsyncMessage> {
  let message: AsyncMessage | undefined;
  await until("a message", async () => {
    const sync = await channel.basicGet({ queue, noAck: true });
    if (sync !== undefined) message = { ...sync, consumerTag: "" };
    return message !== undefined;
  });
  assert.ok(message);
  return message;
}

function tableOf(message: AsyncMessage): Buffer {
  const header = contentHeaderOf(message);
  assert.ok(header);
  return headersTableOf(header.payload);
}

test("the version of rabbitmq-client is the one whose inside is known", () => {
  const { version } = createRequire(import.meta.url)("rabbitmq-client/package.json") as { readonly version: string };
  assert.equal(version, "5.0.8", "compare its Connection, Channel, codec and util, then run this file");
});

/** The bytes of each field by its name, without what quorum queues add. */
function bytesByName(table: Buffer): ReadonlyMap<string, string> {
  const fields = fieldsOf(table) ?? assert.fail("the table cannot be read");
  const entries = fields.map(({ name, start, end }) => [name, table.toString("hex", start, end)] as const);
  return new Map(entries.filter(([name]) => name !== "x-delivery-count").sort(([a], [b]) => (a < b ? -1 : 1)));
}

for (const type of ["classic", "quorum"] as const) {
  test(`headers of every type, and too deep for the client, are the same bytes after a move (${type} queue)`, async (t) => {
    const world = await channelFor(t);
    if (world === undefined) return;
    const { channel, broker } = world;
    const queue = broker.name("odd");
    await channel.queueDeclare({ queue, arguments: { "x-queue-type": type }, durable: true });
    for (const table of [ODD, nested(12_000)]) {
      const first = withContentHeader({ routingKey: queue }, movedContentHeader(NO_PROPERTIES, table));
      await stored(channel, first, Buffer.from("body"));
      const came = { ...(await got(channel, queue)), exchange: "x", routingKey: "k" };
      const { envelope, body } = readdressed(came, queue, { [HEADERS.attempt]: 2 });
      await stored(channel, envelope, body);
      const moved = await got(channel, queue);
      const own = [
        encodeField(HEADERS.originExchange, "x"),
        encodeField(HEADERS.originRoutingKey, "k"),
        encodeField(HEADERS.attempt, 2),
      ];
      assert.deepEqual(bytesByName(tableOf(moved)), bytesByName(Buffer.concat([table, ...own])));
      assert.equal(moved.headers?.[HEADERS.attempt], 2);
    }
  });
}

test("bodies are the bytes that came, whatever their content type, and it is kept; so are the properties", async (t) => {
  const world = await channelFor(t);
  if (world === undefined) return;
  const { channel, broker } = world;
  const queue = broker.name("bodies");
  await channel.queueDeclare({ queue, arguments: { "x-queue-type": "quorum" }, durable: true });
  const received: AsyncMessage[] = [];
  await channel.basicConsume({ queue, noAck: true }, (message) => received.push(message));
  const properties = {
    messageId: "é-1",
    correlationId: "c",
    replyTo: "r",
    type: "t",
    appId: "a",
    priority: 3,
    timestamp: 5,
  };
  const bodies = [
    ["application/json", Buffer.from('{"n":12345678901234567890, "x":"M\xfcller"}', "latin1")],
    ["text/plain", Buffer.from([0xff, 0xfe, 0, 0x41])],
    ["application/json; charset=utf-8", Buffer.alloc(0)],
    ["application/protobuf", Buffer.alloc(300_000, 7)],
  ] as const;
  for (const [contentType, body] of bodies) {
    const before = received.length;
    await stored(channel, { ...properties, routingKey: queue, contentType, expiration: "60000" }, body);
    await until("the message", () => received.length > before);
    const came = received.at(-1);
    assert.ok(came);
    const { envelope, body: again } = readdressed(came, queue, {});
    await stored(channel, envelope, again);
    await until("the moved message", () => received.length > before + 1);
    const moved = received.at(-1);
    assert.ok(moved && Buffer.isBuffer(moved.body));
    assert.deepEqual(moved.body, body);
    assert.equal(moved.contentType, contentType);
    for (const [name, value] of Object.entries(properties)) assert.equal(moved[name as "type"], value, name);
    assert.equal(moved.durable, true);
    assert.equal(moved.expiration, undefined);
  }
});

test("other connections of the process are not changed", async (t) => {
  const world = await channelFor(t);
  if (world === undefined) return;
  const { broker } = world;
  const other = new Connection({ url: broker.url });
  t.after(() => other.unsafeDestroy());
  other.on("error", () => {});
  const channel = await within(other.acquire(), "a channel");
  const queue = broker.name("other");
  await channel.queueDeclare({ queue, exclusive: true });
  await channel.confirmSelect();
  await channel.basicPublish({ routingKey: queue, headers: { a: 1 } }, { json: true });
  const message = await channel.basicGet({ queue, noAck: true });
  assert.deepEqual([message?.body, message?.headers?.["a"]], [{ json: true }, 1]);
  assert.equal(contentHeaderOf(message ?? {}), undefined);
});

test("headers that do not fit into a frame are shortened: our error text, then other publishers' from the largest on", async (t) => {
  const world = await channelFor(t);
  if (world === undefined) return;
  const { channel, broker } = world;
  const queue = broker.name("large");
  await channel.queueDeclare({ queue, exclusive: true });
  const room = frameMaxOf(channel) - 8 - movedContentHeader(NO_PROPERTIES, Buffer.alloc(0)).length;
  const kept = [
    encodeField("cloudEvents:id", "e".repeat(1_000)),
    encodeField("traceparent", "00-ab"),
    encodeField("small", "s"),
  ];
  const fill = room - Buffer.concat(kept).length - encodeField("large", "").length;
  const table = Buffer.concat([...kept, encodeField("large", "l".repeat(fill))]);
  await stored(
    channel,
    withContentHeader({ routingKey: queue }, movedContentHeader(NO_PROPERTIES, table)),
    Buffer.from("body"),
  );
  const came = await got(channel, queue);
  const { envelope, body } = readdressed(came, queue, { [HEADERS.deadError]: "x".repeat(400) });
  await stored(channel, envelope, body);
  const { headers = {} } = await got(channel, queue);
  // RabbitMQ 4 sorts them.
  assert.deepEqual(
    new Set(Object.keys(headers)),
    new Set([
      "cloudEvents:id",
      "traceparent",
      "small",
      HEADERS.originExchange,
      HEADERS.originRoutingKey,
      HEADERS.deadError,
      HEADERS.shortened,
    ]),
  );
  assert.equal(headers[HEADERS.deadError], "");
  const attributesOnly = { ...came, headers: { "cloudEvents:id": "", "cloudEvents:large": "" } };
  const header = contentHeaderOf(came);
  assert.ok(header);
  const huge = Buffer.concat([encodeField("cloudEvents:large", "l".repeat(room - 30))]);
  const message = withContentHeader(attributesOnly, movedContentHeader(NO_PROPERTIES, huge));
  Object.assign(contentHeaderOf(message) ?? {}, { frameMax: header.frameMax });
  assert.throws(() => readdressed(message as AsyncMessage, queue, {}), { reason: "EVENT_UNMOVABLE" });
});

test("an error text in a header has no credentials and at most 500 bytes, cut between characters", async (t) => {
  const world = await channelFor(t);
  if (world === undefined) return;
  const { channel, broker } = world;
  const queue = broker.name("error");
  await channel.queueDeclare({ queue, exclusive: true });
  await stored(channel, { routingKey: queue, headers: { [HEADERS.attempt]: 99 } }, Buffer.from("body"));
  const came = await got(channel, queue);
  const error = `amqp://user:secret@host refused: ${"€".repeat(400)}`;
  const { envelope, body } = readdressed(came, queue, { [HEADERS.deadError]: error });
  await stored(channel, envelope, body);
  const { headers } = await got(channel, queue);
  const text = String(headers?.[HEADERS.deadError]);
  assert.ok(!text.includes("secret") && text.endsWith("€"), text);
  assert.ok(Buffer.byteLength(text) <= 500 && Buffer.byteLength(text) > 490, text);
  assert.equal(headers?.[HEADERS.attempt], undefined);
});

test("headers that were taken out of a message are left out when it is moved", async (t) => {
  const world = await channelFor(t);
  if (world === undefined) return;
  const { channel, broker } = world;
  const queue = broker.name("redriven");
  await channel.queueDeclare({ queue, exclusive: true });
  const headers = { [HEADERS.originExchange]: "x", [HEADERS.originRoutingKey]: "k", [HEADERS.attempt]: 3, kept: "yes" };
  await stored(channel, { routingKey: queue, headers }, Buffer.from("body"));
  const { headers: { [HEADERS.attempt]: _, ...others } = {}, ...came } = await got(channel, queue);
  const { envelope, body } = readdressed({ ...came, headers: others }, queue, { [HEADERS.originExchange]: "y" });
  await stored(channel, envelope, body);
  const { [HEADERS.attempt]: attempt, ...expected } = { ...headers, [HEADERS.originExchange]: "y" };
  assert.deepEqual((await got(channel, queue)).headers, expected);
  assert.equal(attempt, 3);
});

test("when the client's inside is not as expected, it decodes messages itself, and what it decodes with loss is not moved", async (t) => {
  const broker = await rabbitmqForTest(t);
  if (broker === undefined) return;
  changeInside(t);
  const onMismatch = t.mock.fn();
  const rabbit = createClient({ url: broker.url }, onMismatch);
  rabbit.on("error", () => {});
  t.after(() => rabbit.unsafeDestroy());
  const channel = await within(rabbit.acquire(), "a channel");
  await within(rabbit.acquire(), "another channel");
  assert.equal(onMismatch.mock.callCount(), 1);
  const queue = broker.name("decoded");
  await channel.queueDeclare({ queue, exclusive: true });
  const contentType = "application/protobuf";
  await stored(channel, { routingKey: queue, contentType, headers: { a: "b", n: 1, t: true } }, Buffer.from("body"));
  const came = await got(channel, queue);
  const { envelope, body } = readdressed(came, queue, { [HEADERS.attempt]: 2 });
  assert.equal(contentHeaderOf(envelope), undefined);
  await stored(channel, envelope, body);
  const moved = await got(channel, queue);
  const own = { [HEADERS.originExchange]: "", [HEADERS.originRoutingKey]: queue, [HEADERS.attempt]: 2 };
  assert.deepEqual(moved.headers, { a: "b", n: 1, t: true, ...own });
  assert.deepEqual([moved.contentType, moved.body], [contentType, Buffer.from("body")]);
  for (const lossy of [
    { ...came, headers: { n: 1.5 } },
    { ...came, headers: { table: {} } },
    { ...came, body: {} },
  ]) {
    assert.throws(() => readdressed(lossy, queue, {}), { reason: "EVENT_UNMOVABLE" });
  }
});

for (const inside of ["as expected", "not as expected"] as const) {
  test(`of messages in flight those that the broker returns or refuses are told apart (the client's inside is ${inside})`, async (t) => {
    if (inside === "not as expected") changeInside(t);
    const broker = await rabbitmqForTest(t);
    if (broker === undefined) return;
    const rabbit = createClient({ url: broker.url });
    rabbit.on("error", () => {});
    t.after(() => rabbit.unsafeDestroy());
    const channel = await within(rabbit.acquire(), "a channel");
    await channel.confirmSelect();
    const [queue, full] = [broker.name("takes"), broker.name("full")];
    await channel.queueDeclare({ queue, exclusive: true });
    const limits = { "x-max-length": 0, "x-overflow": "reject-publish" } as const;
    await channel.queueDeclare({ queue: full, exclusive: true, arguments: limits });
    const kinds = { stored: queue, refused: full, returned: broker.name("missing") } as const;
    const names = Object.keys(kinds) as (keyof typeof kinds)[];
    const expected = Array.from({ length: 600 }, (_, index) => names[(index % 7) % 3] ?? "stored");
    const messages = expected.map((kind, index) => ({
      // Two of each id, and others of the same id to another place.
      envelope: { routingKey: kinds[kind], mandatory: true, messageId: `m-${index >> 2}` },
      // Large ones wait for the socket, and the next ones behind them.
      body: Buffer.alloc(index % 50 === 0 ? 300_000 : 100),
    }));
    assert.deepEqual(await within(outcomesOf(channel, messages), "the outcomes"), expected);
  });
}

test("messages of one turn go out in one write", async (t) => {
  const world = await channelFor(t);
  if (world === undefined) return;
  const { channel, broker, rabbit } = world;
  const queue = broker.name("together");
  await channel.queueDeclare({ queue, exclusive: true });
  const { _socket: socket } = rabbit as unknown as { readonly _socket: Writable };
  const write = t.mock.method(socket, "_write");
  const messages = Array.from({ length: 100 }, () => ({ envelope: { routingKey: queue }, body: Buffer.from("body") }));
  createWriteTogether(rabbit)();
  const outcomes = outcomesOf(channel, messages);
  assert.deepEqual(new Set(await within(outcomes, "the outcomes")), new Set(["stored"]));
  assert.equal(write.mock.callCount(), 1);
  assert.equal((await channel.queueDeclare({ queue, passive: true })).messageCount, 100);
});

test("tables that cannot be read have no fields", () => {
  for (const bad of [
    field("a", "?", "00"),
    field("a", "S", "0000ffff00"),
    Buffer.of(200, 1),
    field("a", "I", "0000"),
  ]) {
    assert.equal(fieldsOf(bad), undefined);
  }
});
