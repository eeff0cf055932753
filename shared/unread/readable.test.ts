import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  file_google_protobuf_descriptor,
  file_google_protobuf_struct,
  StringValueSchema,
  StructSchema,
  TimestampSchema,
} from "@bufbuild/protobuf/wkt";
import { isReadable } from "./readable.ts";
import { SampleSchema } from "./test-support.ts";

const leaf = { text: "leaf", count: -1 };
const samples: readonly (readonly [DescMessage, Uint8Array])[] = [
  written(SampleSchema, {}),
  written(SampleSchema, {
    text: "grüße",
    blob: new Uint8Array([0xff, 0x80]),
    flag: true,
    count: -5,
    big: -7n,
    fixed: 4_294_967_295,
    real: 1.5,
    small: 0.5,
    wide: 12n,
    kind: 9,
    child: { child: { child: leaf } },
    children: [leaf, {}, leaf],
    texts: ["", "a", "x".repeat(200)],
    counts: [1, -1, 300],
    reals: [0.1, 0.2],
    fixeds: [1, 2, 3],
    kinds: [0, 1, 7],
    byName: { a: leaf, "": {} },
    byCount: { 1: "one", [-2]: "ü" },
    at: { seconds: 1n, nanos: 2 },
    choice: { case: "other", value: leaf },
    maybe: 0,
  }),
  written(StringValueSchema, { value: "ü".repeat(100) }),
  written(FileDescriptorProtoSchema, file_google_protobuf_struct.proto),
];

test("whatever is written by the book is readable", () => {
  for (const [desc, bytes] of samples) assert.equal(isReadable(desc, bytes), true, String(desc));
});

test("fields that nobody knows and numbers that are not packed are readable", () => {
  const unknown = [
    0xf8, 0x3f, 1, 0xfa, 0x3f, 2, 0xff, 0xff, 0xfd, 0x3f, 1, 2, 3, 4, 0xf9, 0x3f, 1, 2, 3, 4, 5, 6, 7, 8,
  ];
  assert.equal(isReadable(SampleSchema, new Uint8Array(unknown)), true);
  // counts, one by one, of which one is written at needless length; then the same field twice.
  assert.equal(isReadable(SampleSchema, new Uint8Array([0x70, 1, 0x70, 0x82, 0x80, 0x00, 0x20, 1, 0x20, 2])), true);
});

test("what protobuf-es refuses is not readable, and neither is what is odd", () => {
  const odd = {
    "a text that is not UTF-8": [0x0a, 2, 0xc3, 0x28],
    "one that ends too early": [0x0a, 5, 0x61],
    "a number without an end": [0x20, 0x80],
    "a number of eleven bytes": [0x20, ...Array<number>(10).fill(0x80), 1],
    "a fixed number that is cut off": [0x35, 1, 2],
    "field 0": [0x00, 1],
    "a child that is longer than its parent": [0x5a, 4, 0x0a, 9, 0x61, 0x61],
    "a child that ends within a field": [0x5a, 2, 0x0a, 9, ...Array<number>(9).fill(0x61)],
    "packed numbers that end in the middle of one": [0x7a, 7, 1, 2, 3, 4, 5, 6, 7],
    "a group": [0xfb, 0x3f, 0xfc, 0x3f],
    "a wire type that there is not": [0x0e],
    "a text where a number should be": [0x22, 1, 0x61],
    "a number where a text should be": [0x08, 1],
    "a JSON value": [...written(SampleSchema, { json: { a: 1 } })[1]],
  };
  for (const [name, bytes] of Object.entries(odd))
    assert.equal(isReadable(SampleSchema, new Uint8Array(bytes)), false, name);
  assert.equal(isReadable(StructSchema, new Uint8Array()), false);
  const required = file_google_protobuf_descriptor.messages.find(({ name }) => name === "UninterpretedOption");
  assert.ok(required);
  assert.equal(isReadable(required.nestedMessages[0]!, new Uint8Array()), false);
});

test("messages in messages are readable to a depth that protobuf-es reads", () => {
  let bytes: number[] = [];
  for (let depth = 1; depth < 50; depth++) bytes = [0x5a, ...varint(bytes.length), ...bytes];
  assert.equal(isReadable(SampleSchema, new Uint8Array(bytes)), true);
  assert.equal(isReadable(SampleSchema, new Uint8Array([0x5a, ...varint(bytes.length), ...bytes])), false);
});

test("protobuf-es reads and writes whatever is readable, of bytes that were changed at random", () => {
  const random = seeded(20_261_125);
  let readable = 0;
  for (let round = 0; round < 20_000; round++) {
    const [desc, original] = samples[round % samples.length]!;
    const bytes = changed(original, random);
    if (!isReadable(desc, bytes)) continue;
    readable++;
    const hex = Buffer.from(bytes).toString("hex");
    assert.doesNotThrow(() => toBinary(desc, fromBinary(desc, bytes)), `${desc} ${hex}`);
  }
  assert.ok(readable > 1_000, `only ${readable} were readable`);
});

test("a timestamp is a message as others", () => {
  assert.equal(isReadable(TimestampSchema, toBinary(TimestampSchema, create(TimestampSchema, { seconds: 5n }))), true);
});

function written(desc: DescMessage, init: object): readonly [DescMessage, Uint8Array] {
  return [desc, toBinary(desc, create(desc, init as Record<string, unknown>) as Message)];
}

function varint(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >> 7)];
}

function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Some bytes put in place of others, left out, or put between. */
function changed(original: Uint8Array, random: (below: number) => number): Uint8Array {
  const bytes = [...original];
  for (let count = random(4); count >= 0; count--) {
    const at = random(bytes.length + 1);
    bytes.splice(at, random(3), ...Array.from({ length: random(3) }, () => random(256)));
  }
  return new Uint8Array(bytes);
}
