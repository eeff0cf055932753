import { DomainError } from "#shared/errors";

/** What a key's columns are; each is checked as its column's type, so that a forged token is not the database's to refuse. */
export type KeyColumn = keyof typeof columns;
type KeyValue<C extends KeyColumn> = ReturnType<(typeof columns)[C]["decode"]> & {};
/** The last row's key, by column: `["timestamptz", "uuid"]` is `[Date, string]`. */
export type PageKey<C extends readonly KeyColumn[]> = { -readonly [I in keyof C]: KeyValue<C[I]> };

const VERSION = 1;
const LONGEST_TOKEN = 2_048;

/**
 * An opaque token for the page after this key (keyset paging: `where (created_at, id) > (…) order by created_at, id`).
 * A timestamptz in a key must be a `timestamptz(3)`: Date cuts microseconds off, and rows would repeat.
 *
 * @param list what the token is for: the list's name and its filters (`orders user=7`). Another list refuses it
 */
export function encodePageToken(list: string, key: readonly (string | number | bigint | Date)[]): string {
  const values = key.map((value) => {
    if (typeof value === "bigint") return value.toString();
    return value instanceof Date ? value.getTime() : value;
  });
  return Buffer.from(JSON.stringify([VERSION, list, ...values])).toString("base64url");
}

/**
 * The key in a request's `page_token`; undefined for the empty token, which is the first page.
 *
 * @throws DomainError `invalid_argument` / `PAGE_TOKEN_INVALID` for one that was not made for this list
 */
export function decodePageToken<const C extends readonly KeyColumn[]>(
  list: string,
  token: string,
  key: C,
): PageKey<C> | undefined {
  if (token === "") return undefined;
  const [version, madeFor, ...values] = parse(token);
  if (version !== VERSION || madeFor !== list || values.length !== key.length) throw invalid();
  return key.map((column, index) => {
    const value = columns[column].decode(values[index]);
    if (value === undefined) throw invalid();
    return value;
  }) as PageKey<C>;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const INT8 = /^(0|-?[1-9][0-9]{0,18})$/;
// The years 1 to 9999: what both drivers can write.
const EARLIEST_MS = -62_135_596_800_000;
const LATEST_MS = 253_402_300_799_999;

const columns = {
  // PostgreSQL has no NUL in text.
  text: { decode: (value: unknown) => (typeof value === "string" && !value.includes("\0") ? value : undefined) },
  uuid: { decode: (value: unknown) => (typeof value === "string" && UUID.test(value) ? value : undefined) },
  int4: {
    decode: (value: unknown) => (typeof value === "number" && (value | 0) === value ? value : undefined),
  },
  int8: {
    decode(value: unknown): bigint | undefined {
      if (typeof value !== "string" || !INT8.test(value)) return undefined;
      const int = BigInt(value);
      return BigInt.asIntN(64, int) === int ? int : undefined;
    },
  },
  timestamptz: {
    decode(value: unknown): Date | undefined {
      const valid = Number.isInteger(value) && (value as number) >= EARLIEST_MS && (value as number) <= LATEST_MS;
      return valid ? new Date(value as number) : undefined;
    },
  },
} as const;

function parse(token: string): unknown[] {
  if (token.length > LONGEST_TOKEN || !/^[\w-]+$/.test(token)) throw invalid();
  try {
    const content: unknown = JSON.parse(Buffer.from(token, "base64url").toString());
    if (Array.isArray(content)) return content;
  } catch (error) {
    throw invalid(error);
  }
  throw invalid();
}

function invalid(cause?: unknown): DomainError {
  return new DomainError("invalid_argument", "PAGE_TOKEN_INVALID", "the page token is not one of this list's", {
    fields: [{ field: "page_token", description: "not a token that this list gave", reason: "PAGE_TOKEN_INVALID" }],
    ...(cause !== undefined && { cause }),
  });
}
