import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { file_testing_v1_testing_events, GreetedSchema, RegisteredSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { createEventBus, RejectedEventError } from "#shared/event-bus";
import { createReadiness } from "#shared/lifecycle";
import { rabbitmqForTest, recordLog, until } from "#shared/testing";
import { openBroker } from "./broker.ts";
import { dropDeadLetters, listDeadLetters, redriveDeadLetters, showDeadLetter } from "./dead-letters.ts";
import { deadLetter, type QueueForTest, queueForTest } from "./test-support.ts";
import { decoderOf } from "./whole-dead-letter.ts";

const decode = decoderOf([file_testing_v1_testing_events]);

async function put(one: QueueForTest, ids: readonly string[]): Promise<void> {
  await Promise.all(ids.map((id) => one.put(one.deadLetterQueue, deadLetter(id))));
}

const numbered = (count: number) => Array.from({ length: count }, (_, i) => String(i));
const idsOf = (messages: readonly { readonly id: string | null | undefined }[]) => messages.map(({ id }) => id);

describe("listing dead letters", () => {
  test("tells of each who failed, why and when, the oldest first", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, ["a", "b"]);
    const { deadLetters, more, ...names } = await listDeadLetters(one.broker, one);
    assert.deepEqual(names, { queue: one.queue, deadLetterQueue: one.deadLetterQueue });
    assert.equal(more, 0);
    assert.deepEqual(idsOf(deadLetters), ["a", "b"]);
    const { time, ...rest } = deadLetters[0]!;
    assert.ok(time !== null && !Number.isNaN(Date.parse(time)));
    assert.deepEqual(rest, {
      id: "a",
      type: "testing.v1.Registered",
      reason: "attempts_exhausted",
      by: "consumer",
      attempts: 6,
      deaths: null,
      error: "Error: no such shelf",
      deadSince: "2026-01-02T03:04:05.678Z",
      exchange: "bookshop",
      routingKey: "testing.registered",
      source: "user-service",
      key: "ada",
    });
  });

  test("stops at its limit, and says how many there are besides", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, numbered(7));
    const { deadLetters, more } = await listDeadLetters(one.broker, { queue: one.queue, limit: 3 });
    assert.deepEqual(idsOf(deadLetters), ["0", "1", "2"]);
    assert.equal(more, 4);
  });

  test("finds none in an empty queue", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const { deadLetters, more } = await listDeadLetters(one.broker, one);
    assert.deepEqual([deadLetters, more], [[], 0]);
  });

  test("reads what does not say what it is", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await one.put(one.deadLetterQueue, {}, Buffer.from("?"));
    const { deadLetters } = await listDeadLetters(one.broker, one);
    const { id, reason, by, deadSince } = deadLetters[0]!;
    assert.deepEqual({ id, reason, by, deadSince }, { id: null, reason: "", by: null, deadSince: null });
  });

  test("fails where there is no such queue", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await assert.rejects(listDeadLetters(one.broker, one), { code: "not_found", reason: "QUEUE_NOT_FOUND" });
  });
});

describe("looking", () => {
  test("leaves thousands of messages where they were, in their order, however often", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const ids = numbered(2_500);
    await put(one, ids);
    await listDeadLetters(one.broker, { queue: one.queue, limit: 10 });
    await listDeadLetters(one.broker, { queue: one.queue, limit: 2_000 });
    await showDeadLetter(one.broker, { queue: one.queue, id: "1700", decode });
    assert.deepEqual(idsOf(await one.take(one.deadLetterQueue)), ids);
  });

  test("takes no more than it lists, and loses none when a shorter list follows a longer one", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const ids = numbered(500);
    await put(one, ids);
    const { more } = await listDeadLetters(one.broker, { queue: one.queue, limit: 20 });
    assert.equal(more, 480);
    await listDeadLetters(one.broker, { queue: one.queue, limit: 5 });
    const messages = await one.take(one.deadLetterQueue);
    assert.deepEqual(idsOf(messages).toSorted(), ids.toSorted());
    const delivered = messages.filter(({ headers }) => Number(headers["x-delivery-count"] ?? 0) > 0);
    assert.equal(delivered.length, 20);
  });
});

describe("showing a dead letter", () => {
  test("decodes protobuf, proto-JSON and the bare JSON of older publishers", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const greeting = { name: "Ada", message: "Hello Ada!" };
    const type = GreetedSchema.typeName;
    const json = "application/json";
    const bodies = {
      protobuf: toBinary(GreetedSchema, { $typeName: type, ...greeting }),
      json: JSON.stringify(greeting),
      bare: JSON.stringify({ type: "hello", ...greeting }),
    };
    const dead = one.deadLetterQueue;
    await one.put(dead, deadLetter("protobuf", { type }), Buffer.from(bodies.protobuf));
    await one.put(dead, deadLetter("json", { type, contentType: json }), Buffer.from(bodies.json));
    await one.put(dead, { messageId: "bare", contentType: json }, Buffer.from(bodies.bare));
    for (const id of ["protobuf", "json", "bare"]) {
      const { message } = await showDeadLetter(one.broker, { queue: one.queue, id, decode });
      assert.deepEqual(message, { kind: "event", type, json: greeting }, id);
    }
  });

  test("shows headers and properties", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const envelope = deadLetter("x", {
      correlationId: "c",
      headers: { list: [1, { a: true }] },
    });
    await one.put(one.deadLetterQueue, envelope);
    const { headers, properties } = await showDeadLetter(one.broker, { queue: one.queue, id: "x", decode });
    assert.equal(headers["x-origin-routing-key"], "testing.registered");
    assert.deepEqual(headers["list"], [1, { a: true }]);
    assert.equal(properties["correlationId"], "c");
    assert.equal(properties["contentType"], "application/protobuf");
  });

  test("gives the bytes of what it cannot decode, and says why", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const [broken, strange] = [Buffer.of(0xff, 0xff), Buffer.from("{")];
    await one.put(one.deadLetterQueue, deadLetter("broken"), broken);
    await one.put(one.deadLetterQueue, deadLetter("unknown", { type: "some.v1.Other" }), strange);
    await one.put(one.deadLetterQueue, deadLetter("json", { contentType: "application/json" }), strange);
    for (const [id, bytes] of Object.entries({ broken, unknown: strange, json: strange })) {
      const { message } = await showDeadLetter(one.broker, { queue: one.queue, id, decode });
      assert.ok(message.kind === "bytes" && message.why !== "", id);
      assert.deepEqual(Buffer.from(message.base64, "base64"), bytes, id);
    }
  });

  test("fails when there is none with this id", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, ["a"]);
    const showing = showDeadLetter(one.broker, { queue: one.queue, id: "b", decode });
    await assert.rejects(showing, { code: "not_found", reason: "DEAD_LETTER_NOT_FOUND" });
  });
});

describe("redriving", () => {
  test("gives each back to its work queue as if it had never failed, with its id and body", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await one.put(one.deadLetterQueue, deadLetter("a", { headers: { tenant: "t" } }), Buffer.from([10, 1, 65]));
    assert.deepEqual(await redriveDeadLetters(one.broker, one), { done: 1, of: 1 });
    const [message, ...rest] = await one.take(one.queue);
    assert.deepEqual(rest, []);
    assert.ok(message !== undefined);
    const { "x-delivery-count": _count, ...headers } = message.headers;
    assert.deepEqual(headers, {
      "cloudEvents:id": "a",
      "cloudEvents:source": "user-service",
      "cloudEvents:partitionkey": "ada",
      "x-origin-exchange": "bookshop",
      "x-origin-routing-key": "testing.registered",
      tenant: "t",
    });
    assert.equal(message.id, "a");
    assert.equal(message.durable, true);
    assert.deepEqual(message.body, Buffer.from([10, 1, 65]));
    assert.equal(await one.count(one.deadLetterQueue), 0);
  });

  test("keeps JSON what it was", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const texts = ['{"type":"hello","name":"Ada"}', '"text"', "null", "{", "12"];
    const json = { contentType: "application/json" };
    for (const [i, text] of texts.entries()) {
      await one.put(one.deadLetterQueue, deadLetter(String(i), json), Buffer.from(text));
    }
    await redriveDeadLetters(one.broker, one);
    const messages = await one.take(one.queue);
    assert.deepEqual(new Set(messages.map(({ contentType }) => contentType)), new Set(["application/json"]));
    const written = messages.map(({ body }) => (Buffer.isBuffer(body) ? body.toString() : JSON.stringify(body)));
    assert.deepEqual(written, texts);
  });

  test("keeps the order of hundreds", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    const ids = numbered(350);
    await put(one, ids);
    assert.deepEqual(await redriveDeadLetters(one.broker, one), { done: 350, of: 350 });
    assert.deepEqual(idsOf(await one.take(one.queue)), ids);
    assert.equal(await one.count(one.deadLetterQueue), 0);
  });

  test("moves one event alone when asked to, with its copies, and leaves the others in their order", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, ["a", "b", "c", "b", "d"]);
    assert.deepEqual(await redriveDeadLetters(one.broker, { queue: one.queue, id: "b" }), { done: 2, of: 2 });
    assert.deepEqual(idsOf(await one.take(one.queue)), ["b", "b"]);
    assert.deepEqual(idsOf(await one.take(one.deadLetterQueue)), ["a", "c", "d"]);
  });

  test("moves the oldest when it is limited", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, numbered(5));
    assert.deepEqual(await redriveDeadLetters(one.broker, { queue: one.queue, limit: 2 }), { done: 2, of: 2 });
    assert.deepEqual(idsOf(await one.take(one.queue)), ["0", "1"]);
    assert.deepEqual(idsOf(await one.take(one.deadLetterQueue)), ["2", "3", "4"]);
  });

  test("twice moves nothing twice", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, numbered(20));
    assert.deepEqual(await redriveDeadLetters(one.broker, one), { done: 20, of: 20 });
    assert.deepEqual(await redriveDeadLetters(one.broker, one), { done: 0, of: 0 });
    assert.equal(await one.count(one.queue), 20);
  });

  test("by two at once moves each once", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, numbered(300));
    const other = await openBroker(one.url);
    t.after(() => other.close(2_000));
    const moved = await Promise.all([redriveDeadLetters(one.broker, one), redriveDeadLetters(other, one)]);
    assert.equal(moved[0].done + moved[1].done, 300);
    const ids = idsOf(await one.take(one.queue));
    assert.deepEqual(new Set(ids), new Set(numbered(300)));
    assert.equal(ids.length, 300);
  });

  test("ends although the handler fails again at once", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    const bus = createEventBus({
      config: one.config,
      source: "test-service",
      logger: recordLog("silent").logger,
      readiness: createReadiness(),
    });
    t.after(() => bus.close());
    let handled = 0;
    const consumer = bus.consume({
      events: [RegisteredSchema],
      handlers: {
        "testing.v1.Registered"() {
          handled++;
          throw new RejectedEventError("never");
        },
      },
    });
    t.after(() => consumer.close());
    await bus.start();
    const created = create(RegisteredSchema, { userId: "0197f0c4-8a2b-7c3d-9e4f-2f1d0c9e4b00", username: "ada" });
    const body = Buffer.from(toBinary(RegisteredSchema, created));
    await Promise.all(numbered(250).map((id) => one.put(one.deadLetterQueue, deadLetter(id), body)));
    await consumer.start();
    assert.deepEqual(await redriveDeadLetters(one.broker, one), { done: 250, of: 250 });
    await until("all to be dead again", async () => (await one.count(one.deadLetterQueue)) === 250);
    assert.equal(handled, 250);
    const { deadLetters } = await listDeadLetters(one.broker, { queue: one.queue, limit: 1_000 });
    assert.deepEqual(new Set(idsOf(deadLetters)), new Set(numbered(250)));
    assert.deepEqual(new Set(deadLetters.map(({ reason }) => reason)), new Set(["rejected"]));
    assert.deepEqual(new Set(deadLetters.map(({ routingKey }) => routingKey)), new Set(["testing.registered"]));
  });

  test("leaves what the work queue does not take, and says why", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t), { max_length: 3 });
    if (one === undefined) return;
    await one.declare();
    await one.fill();
    await put(one, numbered(150));
    const { done, of, failure } = await redriveDeadLetters(one.broker, one);
    assert.deepEqual([done, of], [0, 150]);
    assert.equal((failure as { reason?: string }).reason, "EVENT_REFUSED");
    await until("all to be back", async () => (await one.count(one.deadLetterQueue)) === 150);
    assert.deepEqual(idsOf(await one.take(one.deadLetterQueue)), numbered(150));
  });

  test("fails, and moves nothing, when there is no work queue", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, ["a"]);
    await one.delete(one.queue);
    await assert.rejects(redriveDeadLetters(one.broker, one), { reason: "QUEUE_NOT_FOUND" });
    assert.equal(await one.count(one.deadLetterQueue), 1);
  });

  test("fails when there is no dead letter with this id", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, ["a"]);
    const redriving = redriveDeadLetters(one.broker, { queue: one.queue, id: "b" });
    await assert.rejects(redriving, { reason: "DEAD_LETTER_NOT_FOUND" });
    assert.equal(await one.count(one.deadLetterQueue), 1);
  });
});

describe("what RabbitMQ itself has made a dead letter", () => {
  test("is listed with its reason, and redriven as it was published", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t), { delivery_limit: 1 });
    if (one === undefined) return;
    await one.declare();
    const { exchange } = one.config;
    const channel = await one.broker.channel();
    await channel.confirmSelect();
    const envelope = {
      exchange,
      routingKey: "testing.registered",
      messageId: "m",
      durable: true,
      headers: { tenant: "t" },
    };
    await channel.basicPublish(envelope, Buffer.of(10, 1, 65));
    await channel.close();
    // As two consumers that die of it.
    for (let i = 0; i < 2; i++) {
      const dying = await one.broker.channel();
      await until("the message", async () => (await dying.basicGet(one.queue)) !== undefined);
      await dying.close();
    }
    await until("the dead letter", async () => (await one.count(one.deadLetterQueue)) === 1);

    const { deadLetters } = await listDeadLetters(one.broker, one);
    const { reason, by, attempts, deaths, deadSince, exchange: origin, routingKey } = deadLetters[0]!;
    assert.deepEqual(
      { reason, by, attempts, deaths },
      { reason: "delivery_limit", by: "broker", attempts: 1, deaths: 1 },
    );
    assert.deepEqual({ origin, routingKey }, { origin: exchange, routingKey: "testing.registered" });
    assert.ok(Math.abs(Date.parse(deadSince!) - Date.now()) < 60_000);

    assert.deepEqual(await redriveDeadLetters(one.broker, { queue: one.queue, id: "m" }), { done: 1, of: 1 });
    const [message] = await one.take(one.queue);
    const { "x-delivery-count": _count, ...headers } = message!.headers;
    assert.deepEqual(headers, {
      tenant: "t",
      "x-origin-exchange": exchange,
      "x-origin-routing-key": "testing.registered",
    });
  });

  test("in a later attempt keeps where it was published, and how many attempts it had", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t), { delivery_limit: 1 });
    if (one === undefined) return;
    await one.declare();
    const origin = { "x-origin-exchange": "bookshop", "x-origin-routing-key": "testing.registered", "x-attempt": 3 };
    await one.put(one.queue, { messageId: "m", headers: origin });
    for (let i = 0; i < 2; i++) {
      const dying = await one.broker.channel();
      await until("the message", async () => (await dying.basicGet(one.queue)) !== undefined);
      await dying.close();
    }
    await until("the dead letter", async () => (await one.count(one.deadLetterQueue)) === 1);
    const { deadLetters } = await listDeadLetters(one.broker, one);
    const { reason, attempts, exchange, routingKey } = deadLetters[0]!;
    assert.deepEqual(
      { reason, attempts, exchange, routingKey },
      { reason: "delivery_limit", attempts: 3, exchange: "bookshop", routingKey: "testing.registered" },
    );
  });
});

describe("dropping", () => {
  test("deletes one event with its copies", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, ["a", "b", "c", "b"]);
    assert.deepEqual(await dropDeadLetters(one.broker, { queue: one.queue, id: "b" }), { done: 2, of: 2 });
    assert.deepEqual(idsOf(await one.take(one.deadLetterQueue)), ["a", "c"]);
    assert.equal(await one.count(one.queue), 0);
  });

  test("deletes all, and needs no work queue", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, numbered(230));
    await one.delete(one.queue);
    assert.deepEqual(await dropDeadLetters(one.broker, one), { done: 230, of: 230 });
    assert.equal(await one.count(one.deadLetterQueue), 0);
  });

  test("fails when there is no dead letter with this id", async (t) => {
    const one = await queueForTest(t, await rabbitmqForTest(t));
    if (one === undefined) return;
    await one.declare();
    await put(one, ["a"]);
    const dropping = dropDeadLetters(one.broker, { queue: one.queue, id: "b" });
    await assert.rejects(dropping, { reason: "DEAD_LETTER_NOT_FOUND" });
    assert.equal(await one.count(one.deadLetterQueue), 1);
  });
});
