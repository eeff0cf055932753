import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import type { Envelope } from "rabbitmq-client";
import { encodeMessage } from "./message-frames.ts";

interface Codec {
  genContentFrames(channelId: number, parameters: object, body: Buffer, frameMax: number): Iterable<Buffer>;
}
const { genContentFrames } = createRequire(import.meta.url)("rabbitmq-client/lib/codec.js") as Codec;

const CHANNEL = 513;
const FRAME_MAX = 4_096;
const NOW_MS = 1_800_000_000_000;

function encoded(envelope: Envelope, body: Buffer, frameMax = FRAME_MAX): Buffer {
  const { head, rest } = encodeMessage(CHANNEL, envelope, body, frameMax);
  const frames = [head];
  for (let next = rest?.next(); next?.done === false; next = rest?.next()) frames.push(next.value);
  return Buffer.concat(frames);
}

function encodedByClient(envelope: Envelope, body: Buffer): Buffer {
  const parameters = { rsvp1: 0, timestamp: NOW_MS / 1_000, ...envelope, deliveryMode: envelope.durable ? 2 : 1 };
  // It counts the payload of a frame alone.
  return Buffer.concat([...genContentFrames(CHANNEL, parameters, body, FRAME_MAX - 8)]);
}

const ALL: Envelope = {
  exchange: "événements",
  routingKey: "order.placed",
  mandatory: true,
  durable: true,
  contentType: "application/protobuf",
  contentEncoding: "identity",
  headers: {
    "cloudEvents:id": "a",
    empty: "",
    très: "long ".repeat(50),
    日本: "✓ with 🎉",
    traceparent: "00-ab-cd-01",
  },
  priority: 3,
  correlationId: "c",
  replyTo: "r",
  expiration: "60000",
  messageId: "01890000-0000-7000-8000-000000000000",
  timestamp: 1_700_000_000,
  type: "order.v1.OrderPlaced",
  userId: "u",
  appId: "a",
};

test("a message is the bytes that rabbitmq-client makes of it", (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: NOW_MS });
  const envelopes: readonly Envelope[] = [
    ALL,
    {},
    { routingKey: "k".repeat(255), headers: {} },
    { messageId: "i".repeat(300) },
  ];
  for (const envelope of envelopes) {
    for (const size of [0, 1, 256, FRAME_MAX - 8, FRAME_MAX - 7, 3 * FRAME_MAX, 40_000]) {
      const body = Buffer.alloc(size, "body");
      assert.deepEqual(encoded(envelope, body), encodedByClient(envelope, body), `${size} bytes`);
    }
  }
});

test("messages that are encoded later do not change those before", () => {
  const messages = Array.from({ length: 500 }, (_, index) => {
    const envelope = { ...ALL, messageId: `id-${index}` };
    const body = Buffer.alloc(index, "x");
    return { bytes: encodeMessage(CHANNEL, envelope, body, FRAME_MAX).head, envelope, body };
  });
  for (const { bytes, envelope, body } of messages) assert.deepEqual(bytes, encodedByClient(envelope, body));
});

test("headers that exceed a frame are refused, with room to the byte, and the next message is whole", () => {
  const size = (filler: number) => encoded({ headers: { filler: "f".repeat(filler) } }, Buffer.of()).length;
  // The frame of the method has 17 bytes.
  const fits = FRAME_MAX - (size(0) - 17);
  assert.equal(size(fits) - 17, FRAME_MAX);
  assert.throws(() => size(fits + 1), { reason: "EVENT_TOO_LARGE" });
  assert.deepEqual(encoded(ALL, Buffer.of(1)), encodedByClient(ALL, Buffer.of(1)));
});
