import { isUtf8 } from "node:buffer";
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";

/**
 * Whether protobuf-es reads the bytes as this message without an error, and writes what it has read. In doubt it says
 * no: of groups, of numbers that are written at needless length, of fields in another wire type than their own.
 */
export function isReadable(desc: DescMessage, bytes: Uint8Array): boolean {
  return new Skimmer(bytes).message(shapeOf(desc), bytes.length, MOST_DEPTH);
}

/** Well within protobuf-es's own limit of 100. */
const MOST_DEPTH = 50;

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/** What stands behind a length: bytes of any kind, UTF-8, numbers of one wire type, or a message. */
type Content = "bytes" | "text" | "varints" | "fixed64s" | "fixed32s" | Shape;

interface Field {
  /** Of a single value, beside `content`. */
  readonly wireType: number;
  readonly content: Content | undefined;
}

/** Fields by their numbers; undefined for messages whose bytes are not all that there is to check. */
interface Shape {
  fields: Map<number, Field> | undefined;
}

const shapes = new WeakMap<DescMessage, Shape>();

/** Converted to JSON as they are read. */
const JSON_TYPES: ReadonlySet<string> = new Set(
  ["Struct", "Value", "ListValue"].map((name) => `google.protobuf.${name}`),
);

function shapeOf(desc: DescMessage): Shape {
  const known = shapes.get(desc);
  if (known !== undefined) return known;
  const shape: Shape = { fields: undefined };
  // Before its fields, which may be of this type too.
  shapes.set(desc, shape);
  if (!JSON_TYPES.has(desc.typeName) && !desc.fields.some(isOdd)) {
    shape.fields = new Map(desc.fields.map((field) => [field.number, fieldOf(field)]));
  }
  return shape;
}

/** Groups have no length, and what is required is missed by whoever writes. */
function isOdd(field: DescField): boolean {
  const isGroup = "delimitedEncoding" in field && field.delimitedEncoding === true;
  return isGroup || field.presence === FeatureSet_FieldPresence.LEGACY_REQUIRED;
}

function fieldOf(field: DescField): Field {
  switch (field.fieldKind) {
    case "scalar":
      return single(field.scalar);
    case "enum":
      return { wireType: VARINT, content: undefined };
    case "message":
      return { wireType: LENGTH, content: shapeOf(field.message) };
    case "list":
      if (field.listKind === "message") return { wireType: LENGTH, content: shapeOf(field.message) };
      return repeated(single(field.listKind === "enum" ? ScalarType.INT32 : field.scalar));
    case "map": {
      const value = field.mapKind === "scalar" ? single(field.scalar) : undefined;
      const other = field.mapKind === "message" ? shapeOf(field.message) : undefined;
      const entry = new Map([
        [1, single(field.mapKey)],
        [2, value ?? { wireType: other === undefined ? VARINT : LENGTH, content: other }],
      ]);
      return { wireType: LENGTH, content: { fields: entry } };
    }
  }
}

function single(type: ScalarType): Field {
  switch (type) {
    case ScalarType.STRING:
      return { wireType: LENGTH, content: "text" };
    case ScalarType.BYTES:
      return { wireType: LENGTH, content: "bytes" };
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return { wireType: FIXED64, content: undefined };
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return { wireType: FIXED32, content: undefined };
    default:
      return { wireType: VARINT, content: undefined };
  }
}

/** Numbers come packed or one by one, whatever the proto says. */
function repeated(one: Field): Field {
  if (one.content !== undefined) return one;
  const { wireType } = one;
  return { wireType, content: wireType === VARINT ? "varints" : wireType === FIXED64 ? "fixed64s" : "fixed32s" };
}

const ANY: Field = { wireType: LENGTH, content: "bytes" };

class Skimmer {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  message({ fields }: Shape, end: number, depth: number): boolean {
    if (fields === undefined || depth === 0) return false;
    while (this.#at < end) {
      const tag = this.#number();
      const number = tag >> 3;
      if (number < 1) return false;
      const field = fields.get(number);
      const wireType = tag & 7;
      if (wireType === LENGTH) {
        const stop = this.#number() + this.#at;
        if (stop < this.#at || stop > end || !this.#content((field ?? ANY).content, stop, depth)) return false;
      } else {
        if (field !== undefined && field.wireType !== wireType) return false;
        if (!this.#value(wireType)) return false;
      }
    }
    return this.#at === end;
  }

  /** At the most four bytes long; -1 when it is not. */
  #number(): number {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) return -1;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return -1;
  }

  #value(wireType: number): boolean {
    if (wireType === VARINT) return this.#varint();
    if (wireType !== FIXED64 && wireType !== FIXED32) return false;
    this.#at += wireType === FIXED64 ? 8 : 4;
    return true;
  }

  #varint(): boolean {
    for (let length = 0; length < 10; length++) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) return false;
      if (byte < 0x80) return true;
    }
    return false;
  }

  #content(content: Content | undefined, stop: number, depth: number): boolean {
    if (typeof content === "object") return this.message(content, stop, depth - 1);
    const from = this.#at;
    if (content === "varints") {
      while (this.#at < stop) if (!this.#varint()) return false;
      return this.#at === stop;
    }
    this.#at = stop;
    if (content === "bytes") return true;
    if (content === "text") return isText(this.#bytes, from, stop);
    return content !== undefined && (stop - from) % (content === "fixed64s" ? 8 : 4) === 0;
  }
}

/** Up to here a look at each byte is quicker than to ask Node. */
const SHORT = 64;

function isText(bytes: Uint8Array, from: number, to: number): boolean {
  if (to - from <= SHORT) {
    let at = from;
    while (at < to && (bytes[at] ?? 0) < 0x80) at++;
    if (at === to) return true;
  }
  return isUtf8(bytes.subarray(from, to));
}
