import assert from "node:assert/strict";
import { test } from "node:test";
import type { AsyncMessage } from "rabbitmq-client";
import type { EventEnvelope } from "../envelope.ts";
import { ATTRIBUTES, fromAmqp, HEADERS, toAmqp, toBody } from "./amqp-message.ts";

const ENVELOPE: EventEnvelope = {
  id: "e-1",
  type: "testing.v1.Greeted",
  source: "orders",
  timeMs: Date.UTC(2026, 0, 1),
  key: "k",
  routingKey: "testing.greeted",
  mustBeRouted: true,
  contentType: "application/protobuf",
  body: Uint8Array.of(1, 2, 3),
  context: { traceparent: "00-a", tracestate: "b", baggage: "c=d", "x-request-id": "r", subject: "users/1" },
};

function received(envelope: EventEnvelope, headers: Readonly<Record<string, unknown>> = {}): AsyncMessage {
  const message = toAmqp("x", envelope);
  const body = toBody(envelope);
  const delivery = {
    consumerTag: "",
    deliveryTag: 1,
    redelivered: false,
    exchange: "x",
    routingKey: "testing.greeted",
  };
  return { ...message, ...delivery, headers: { ...message.headers, ...headers }, body };
}

test("an event comes back as it was published, with the whole map of its context", () => {
  const { envelope, attempt, postponed } = fromAmqp(received(ENVELOPE));
  assert.deepEqual({ ...envelope, body: Uint8Array.from(envelope.body) }, ENVELOPE);
  assert.deepEqual([attempt, postponed], [1, 0]);
});

test("the context cannot replace an attribute of the event", () => {
  const context = { [ATTRIBUTES.id]: "other", [ATTRIBUTES.type]: "other" };
  assert.equal(toAmqp("x", { ...ENVELOPE, context }).headers?.[ATTRIBUTES.id], "e-1");
});

test("numbers of attempts count only on a message that a bus has moved", () => {
  const counts = { [HEADERS.attempt]: 7, [HEADERS.postponed]: 3 };
  const foreign = fromAmqp(received(ENVELOPE, counts));
  assert.deepEqual([foreign.attempt, foreign.postponed], [1, 0]);
  const moved = fromAmqp(received(ENVELOPE, { ...counts, [HEADERS.originExchange]: "x" }));
  assert.deepEqual([moved.attempt, moved.postponed], [7, 3]);
  const odd = fromAmqp(received(ENVELOPE, { [HEADERS.attempt]: "many", [HEADERS.originExchange]: "x" }));
  assert.equal(odd.attempt, 1);
});
