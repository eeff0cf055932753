import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { CountedSchema, GreetedSchema, RegisteredSchema } from "#gen/testing/v1/testing_events_pb.ts";
import { ItemSchema } from "#gen/testing/v1/testing_pb.ts";
import { createDecoder, type Decoded, encodeEvent } from "./codec.ts";
import { eventTypeOf } from "./event-type.ts";

const decode = createDecoder([eventTypeOf(GreetedSchema), eventTypeOf(CountedSchema)]);
const greeted = create(GreetedSchema, { name: "Ada", message: "Hello Ada!" });
const json = (value: unknown) => Buffer.from(JSON.stringify(value));

function messageOf(decoded: Decoded) {
  if (decoded.kind === "event") return decoded.message;
  throw new Error(decoded.kind === "unknown" ? `unknown ${decoded.type}` : String(decoded.error));
}

describe("a decoder", () => {
  for (const encoding of ["protobuf", "json"] as const) {
    test(`reads what is written as ${encoding}`, () => {
      const encoded = encodeEvent(GreetedSchema, greeted, encoding);
      assert.deepEqual(messageOf(decode({ type: "testing.v1.Greeted", ...encoded })), greeted);
    });
  }

  test("tells the encodings apart by content type, whichever of their names it has", () => {
    const body = toBinary(GreetedSchema, greeted);
    for (const contentType of [
      "application/x-protobuf",
      "application/vnd.google.protobuf",
      "application/protobuf; x=1",
    ]) {
      assert.deepEqual(messageOf(decode({ type: "testing.v1.Greeted", contentType, body })), greeted);
    }
    const text = json({ name: "Ada", message: "Hello Ada!" });
    for (const contentType of ["application/json; charset=utf-8", "application/cloudevents+json"]) {
      assert.deepEqual(messageOf(decode({ type: "testing.v1.Greeted", contentType, body: text })), greeted);
    }
  });

  test("skips fields that a later version has added", () => {
    const body = json({ name: "Ada", message: "Hello Ada!", mood: "cheerful" });
    assert.deepEqual(messageOf(decode({ type: "testing.v1.Greeted", contentType: "application/json", body })), greeted);
  });

  test("reads the original design's bare JSON, which says in itself what it is", () => {
    const body = json({ type: "hello", name: "Ada", message: "Hello Ada!" });
    assert.deepEqual(messageOf(decode({ type: "", contentType: "application/json", body })), greeted);
  });

  test("does not know types that it was not made for", () => {
    const created = encodeEvent(
      RegisteredSchema,
      { userId: "0197f0c4-8a2b-7c3d-9e4f-2f1d0c9e4b00", username: "ada" },
      "protobuf",
    );
    assert.deepEqual(decode({ type: "testing.v1.Registered", ...created }), {
      kind: "unknown",
      type: "testing.v1.Registered",
    });
    const bare = { type: "", contentType: "application/json", body: json({ type: "bye" }) };
    assert.deepEqual(decode(bare), { kind: "unknown", type: "bye" });
  });

  const undecodable: Record<string, { type?: string; contentType?: string; body: Uint8Array }> = {
    "truncated protobuf": { body: toBinary(GreetedSchema, greeted).slice(0, 4) },
    "JSON that ends early": { contentType: "application/json", body: Buffer.from('{"name":') },
    "JSON that is no UTF-8": { contentType: "application/json", body: Buffer.from([0x22, 0xff, 0x22]) },
    "JSON of another shape": { contentType: "application/json", body: json({ name: 5 }) },
    "a content type that nobody knows": { contentType: "text/plain", body: Buffer.from("Ada") },
    "what breaks the rules of its proto": {
      body: toBinary(GreetedSchema, create(GreetedSchema, { name: "" })),
    },
    "no content type": { contentType: "", body: toBinary(GreetedSchema, greeted) },
    "protobuf without a type": { type: "", body: toBinary(GreetedSchema, greeted) },
    "bare JSON without a type": { type: "", contentType: "application/json", body: json({ name: "Ada" }) },
    "bare JSON that is a list": { type: "", contentType: "application/json", body: json([]) },
  };
  for (const [what, { type = "testing.v1.Greeted", contentType = "application/protobuf", body }] of Object.entries(
    undecodable,
  )) {
    test(`cannot read ${what}`, () => {
      assert.equal(decode({ type, contentType, body }).kind, "undecodable");
    });
  }
});

test("a message without the event option is no event", () => {
  assert.throws(() => eventTypeOf(ItemSchema), TypeError);
});

test("a message that breaks the rules of its proto is not written", () => {
  assert.throws(() => encodeEvent(GreetedSchema, { name: "" }, "protobuf"), TypeError);
  assert.throws(() => encodeEvent(RegisteredSchema, { userId: "1", username: "ada" }, "json"), TypeError);
});
