import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Envelope } from "rabbitmq-client";
import { GreetedSchema } from "#gen/testing/v1/testing_events_pb.ts";

/** Event of all measurements: 256 bytes in protobuf. */
export const EventSchema = GreetedSchema;
export const ROUTING_KEY = "testing.greeted";
export const BYTES = 256;
export const KEYS = 1_000;

const NAME = "Ada";
/** A field has one byte for its tag, and one for its length, or two from 128 on. */
const MESSAGE = "x".repeat(BYTES - (2 + NAME.length) - 3);

/** @param name three characters; others change the size */
export function createEvent(name = NAME): MessageInitShape<typeof EventSchema> {
  return { name, message: MESSAGE };
}

export function keyOf(index: number): string {
  return `key-${index % KEYS}`;
}

/** Body for the bare client, which encodes nothing. */
export const bareBody = Buffer.alloc(BYTES, "x");

export function createBareEnvelope(exchange: string): Envelope {
  return {
    exchange,
    routingKey: ROUTING_KEY,
    durable: true,
    mandatory: true,
    messageId: randomUUID(),
    contentType: "application/protobuf",
  };
}
