/** A field of an AMQP table: its place in the table's bytes. */
export interface Field {
  readonly name: string;
  /** Of the name's length octet. */
  readonly start: number;
  /** Of the type octet. */
  readonly typeAt: number;
  readonly end: number;
}

/** Deeper tables and arrays are decoded as null: their bytes are kept, and decoding must not use up the stack. */
const MAX_DEPTH = 32;

/** Size of a value by its type octet, as RabbitMQ has the types (AMQP 0-9-1, errata 3). */
const SIZES = new Int8Array(256).fill(-1);
for (const [size, types] of Object.entries({ 0: "V", 1: "tbB", 2: "su", 4: "Iif", 5: "D", 8: "lTd" })) {
  for (const type of types) SIZES[type.charCodeAt(0)] = Number(size);
}
/** Long string, byte array, array, table: the size stands before the value. */
const [STRING, BYTES, ARRAY, TABLE] = [0x53, 0x78, 0x41, 0x46] as const;

/**
 * Finds the fields of a table, given without its length. Nested tables are passed over.
 *
 * @returns undefined when the table is malformed, or has a field of an unknown type
 */
export function fieldsOf(table: Buffer): Field[] | undefined {
  const fields: Field[] = [];
  for (let offset = 0; offset < table.length; ) {
    const typeAt = offset + 1 + (table[offset] ?? 0);
    const end = endOfValue(table, typeAt);
    if (end > table.length) return undefined;
    fields.push({ name: table.toString("utf8", offset + 1, typeAt), start: offset, typeAt, end });
    offset = end;
  }
  return fields;
}

/** @returns a place behind the table's end when there is no such type */
function endOfValue(bytes: Buffer, typeAt: number): number {
  const type = bytes[typeAt] ?? 0;
  if (type === STRING || type === BYTES || type === ARRAY || type === TABLE) {
    return typeAt + 5 > bytes.length ? MALFORMED : typeAt + 5 + bytes.readUInt32BE(typeAt + 1);
  }
  const size = SIZES[type] ?? -1;
  return size < 0 ? MALFORMED : typeAt + 1 + size;
}

const MALFORMED = Number.POSITIVE_INFINITY;

/**
 * Decodes a table for reading: 64-bit numbers lose precision, decimals become `{ scale, value }`, byte arrays Buffers.
 * Never throws: what is malformed is left out.
 */
export function decodeTable(table: Buffer, depth = 0): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (let offset = 0; offset < table.length; ) {
    const typeAt = offset + 1 + (table[offset] ?? 0);
    const end = endOfValue(table, typeAt);
    if (end > table.length) break;
    const name = table.toString("utf8", offset + 1, typeAt);
    const value = decodeValue(table, typeAt, end, depth);
    if (name === "__proto__") Object.defineProperty(values, name, { value, enumerable: true });
    else values[name] = value;
    offset = end;
  }
  return values;
}

function decodeArray(array: Buffer, depth: number): unknown[] {
  const values: unknown[] = [];
  for (let typeAt = 0; typeAt < array.length; ) {
    const end = endOfValue(array, typeAt);
    if (end > array.length) break;
    values.push(decodeValue(array, typeAt, end, depth));
    typeAt = end;
  }
  return values;
}

function decodeValue(bytes: Buffer, typeAt: number, end: number, depth: number): unknown {
  const at = typeAt + 1;
  const type = bytes[typeAt] ?? 0;
  if (type === STRING) return bytes.toString("utf8", at + 4, end);
  switch (String.fromCharCode(type)) {
    case "t":
      return bytes[at] !== 0;
    case "b":
      return bytes.readInt8(at);
    case "B":
      return bytes.readUInt8(at);
    case "s":
      return bytes.readInt16BE(at);
    case "u":
      return bytes.readUInt16BE(at);
    case "I":
      return bytes.readInt32BE(at);
    case "i":
      return bytes.readUInt32BE(at);
    case "l":
      return Number(bytes.readBigInt64BE(at));
    case "T":
      return Number(bytes.readBigUInt64BE(at));
    case "f":
      return bytes.readFloatBE(at);
    case "d":
      return bytes.readDoubleBE(at);
    case "D":
      return { scale: bytes.readUInt8(at), value: bytes.readInt32BE(at + 1) };
    case "x":
      return bytes.subarray(at + 4, end);
    case "A":
      return depth < MAX_DEPTH ? decodeArray(bytes.subarray(at + 4, end), depth + 1) : null;
    case "F":
      return depth < MAX_DEPTH ? decodeTable(bytes.subarray(at + 4, end), depth + 1) : null;
    default:
      return null;
  }
}

/** Encodes a field: a string, a boolean, or a whole number of up to 64 bits. */
export function encodeField(name: string, value: string | number | boolean): Buffer {
  const key = Buffer.from(name);
  const head = Buffer.concat([Buffer.of(key.length), key]);
  if (typeof value === "boolean") return Buffer.concat([head, Buffer.from("t"), Buffer.of(value ? 1 : 0)]);
  if (typeof value === "number") {
    const number = Buffer.alloc(9, "l");
    number.writeBigInt64BE(BigInt(value), 1);
    return Buffer.concat([head, number]);
  }
  const text = Buffer.from(value);
  const length = Buffer.alloc(5, "S");
  length.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, length, text]);
}
