import pg from "pg";

/**
 * How columns come back, the same on both engines:
 *
 * | column | JavaScript |
 * | --- | --- |
 * | `int2` `int4` `float4` `float8` | number |
 * | `int8`, and so `count(*)` | bigint: exact, and what protobuf's int64 is |
 * | `numeric` | string: exact |
 * | `text` `uuid` | string |
 * | `bool` | boolean |
 * | `timestamptz` | Date, whose milliseconds cut microseconds off: declare `timestamptz(3)` |
 * | `date` `timestamp` `interval` | PostgreSQL's text: neither engine's Date of them is right in every time zone |
 * | `json` `jsonb` | what JSON.parse makes of it |
 * | `bytea` | Uint8Array |
 *
 * Arrays are arrays of the same. Written values: give JSON columns text (`JSON.stringify(value)`), since one driver takes
 * an array for a PostgreSQL array and the other for JSON; all else goes in as it comes out.
 */
type Parse = (text: string) => unknown;

const asText: Parse = (text) => text;

/** By type OID. What is not here is alike in both drivers already. */
export const columnParsers: Readonly<Record<number, Parse>> = {
  20: BigInt, // int8
  1082: asText, // date
  1114: asText, // timestamp
  1186: asText, // interval
};

// PGlite derives array parsers from the element's; pg has its own, by the array's OID.
const elementParsers: Readonly<Record<number, Parse>> = {
  1016: BigInt, // int8[]
  1115: asText, // timestamp[]
  1182: asText, // date[]
  1187: asText, // interval[]
  1231: asText, // numeric[]
};

const TEXT_ARRAY: number = 1009;

/** For pg's `types` option. */
export const pgTypes: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: "text" | "binary") {
    if (format === "binary") return pg.types.getTypeParser(oid, format);
    const parse = columnParsers[oid];
    if (parse !== undefined) return parse;
    const element = elementParsers[oid];
    if (element === undefined) return pg.types.getTypeParser(oid, "text");
    const split = pg.types.getTypeParser(TEXT_ARRAY, "text") as (text: string) => Nested[];
    return (text: string) => split(text).map((item) => parseNested(item, element));
  },
};

type Nested = string | null | readonly Nested[];

function parseNested(item: Nested, parse: Parse): unknown {
  if (item === null) return null;
  return typeof item === "string" ? parse(item) : item.map((inner) => parseNested(inner, parse));
}
