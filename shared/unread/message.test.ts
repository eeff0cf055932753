import assert from "node:assert/strict";
import { test } from "node:test";
import {
  clone,
  create,
  type DescMessage,
  equals,
  fromBinary,
  isFieldSet,
  isMessage,
  type Message,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { type FieldDescriptorProto, FieldDescriptorProtoSchema, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { unreadBytes, unreadMessage } from "./message.ts";
import { SampleSchema } from "./test-support.ts";

const text = toBinary(StringValueSchema, create(StringValueSchema, { value: "Ada" }));
/** With a field that nobody knows, and one that comes twice. */
const odd = new Uint8Array([0x0a, 1, 0x61, 0xf8, 0x3f, 1, 0x0a, 1, 0x62, 0xaa, 0x01, 1, 0x63]);

function unread<Desc extends DescMessage>(desc: Desc, bytes: Uint8Array) {
  const message = unreadMessage(desc, bytes);
  assert.ok(message);
  return message;
}

test("it gives its bytes until somebody looks into it", async () => {
  const message = unread(StringValueSchema, text);
  // As Connect, promises and logs do with any message.
  assert.ok(isMessage(message, StringValueSchema));
  assert.equal(create(StringValueSchema, message), message);
  assert.equal(await Promise.resolve(message), message);
  assert.equal(String(message), "[object Object]");
  assert.equal(message instanceof Promise, false);
  assert.equal(unreadBytes(message), text);
  assert.equal(message.value, "Ada");
  assert.equal(unreadBytes(message), undefined);
});

test("it does not give its bytes once it may have changed", () => {
  const ways: Readonly<Record<string, (message: { value: string }) => unknown>> = {
    read: (message) => message.value,
    set: (message) => Object.assign(message, { value: "" }),
    "set what is no field": (message) => Object.assign(message, { $unknown: [] }),
    define: (message) => Object.defineProperty(message, "value", { value: "" }),
    delete: (message) => Reflect.deleteProperty(message, "value"),
    spread: (message) => ({ ...message }),
    ask: (message) => "value" in message,
    freeze: (message) => Object.freeze(message),
    "take for another": (message) => Object.setPrototypeOf(message, null),
  };
  for (const [name, use] of Object.entries(ways)) {
    const message = unread(StringValueSchema, text);
    use(message);
    assert.equal(unreadBytes(message), undefined, name);
  }
});

test("messages that were made otherwise give no bytes", () => {
  assert.equal(unreadBytes(create(StringValueSchema, { value: "Ada" })), undefined);
  assert.equal(unreadBytes({}), undefined);
});

test("looked into, it is what protobuf-es reads, in whichever way one looks", () => {
  const plain = fromBinary(SampleSchema, odd);
  const ways: Readonly<Record<string, (message: Message) => unknown>> = {
    fields: (message) => ({ ...message }),
    keys: (message) => Object.keys(message),
    JSON: (message) =>
      JSON.stringify(message, (_key, value: unknown) => (typeof value === "bigint" ? `${value}` : value)),
    toJson: (message) => toJson(SampleSchema, message),
    toBinary: (message) => toBinary(SampleSchema, message),
    clone: (message) => clone(SampleSchema, message),
    equals: (message) => equals(SampleSchema, message, plain),
    "the unknown": (message) => message.$unknown,
    "a oneof": (message) => (message as Message & { choice?: unknown }).choice,
    prototype: (message) => Object.getPrototypeOf(message),
    property: (message) => Object.getOwnPropertyDescriptor(message, "text"),
    "whether it has": (message) => ["text", "child", "$typeName", "nothing"].map((key) => key in message),
  };
  for (const [name, look] of Object.entries(ways)) {
    assert.deepEqual(look(unread(SampleSchema, odd)), look(fromBinary(SampleSchema, odd)), name);
  }
});

test("a field can be set, and the others stay", () => {
  const message = unread(SampleSchema, odd) as Message & { text: string };
  message.text = "other";
  const again = fromBinary(SampleSchema, toBinary(SampleSchema, message)) as typeof message;
  assert.equal(again.text, "other");
  assert.deepEqual(
    [...(again.$unknown ?? [])].map(({ no }) => no),
    [1023],
  );
  assert.deepEqual((again as Message & { choice?: unknown }).choice, { case: "one", value: "c" });
});

test("a message of proto2 has its defaults, and knows which fields are set", () => {
  const bytes = toBinary(FieldDescriptorProtoSchema, create(FieldDescriptorProtoSchema, { name: "a" }));
  const message: FieldDescriptorProto = unread(FieldDescriptorProtoSchema, bytes);
  const { field } = FieldDescriptorProtoSchema;
  assert.deepEqual([isFieldSet(message, field.name), isFieldSet(message, field.number)], [true, false]);
  assert.deepEqual([message.name, message.number, message.extendee], ["a", 0, ""]);
});

test("what cannot be read for sure makes none", () => {
  assert.equal(unreadMessage(StringValueSchema, new Uint8Array([0x0a, 9])), undefined);
});
