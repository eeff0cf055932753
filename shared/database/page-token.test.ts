import assert from "node:assert/strict";
import { test } from "node:test";
import { decodePageToken, encodePageToken } from "./page-token.ts";

const ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const refused = {
  name: "DomainError",
  code: "invalid_argument",
  reason: "PAGE_TOKEN_INVALID",
  fields: [{ field: "page_token", description: "not a token that this list gave", reason: "PAGE_TOKEN_INVALID" }],
};
const forge = (...content: unknown[]) => Buffer.from(JSON.stringify(content)).toString("base64url");

test("a key survives its token", () => {
  const key = [new Date(1_767_323_045_678), ID, -(2n ** 63n), 42, "Å\n"] as const;
  const token = encodePageToken("books", key);
  assert.match(token, /^[\w-]+$/);
  assert.deepEqual(decodePageToken("books", token, ["timestamptz", "uuid", "int8", "int4", "text"]), [...key]);
});

test("the empty token is the first page", () => {
  assert.equal(decodePageToken("books", "", ["uuid"]), undefined);
});

test("what this list did not give is refused", () => {
  const good = encodePageToken("books", [ID]);
  const bad: Record<string, string> = {
    "not base64url": "%%%",
    "not JSON": "abcd",
    "not a list": Buffer.from("{}").toString("base64url"),
    "cut short": good.slice(0, -3),
    "another list": encodePageToken("orders", [ID]),
    "another version": forge(2, "books", ID),
    "too few columns": forge(1, "books"),
    "too many columns": forge(1, "books", ID, ID),
    endless: "A".repeat(1_000_000),
  };
  for (const [what, token] of Object.entries(bad)) {
    assert.throws(() => decodePageToken("books", token, ["uuid"]), refused, what);
  }
});

test("a forged value that the column cannot hold is refused", () => {
  const forged = {
    text: [1, null, "a\0b"],
    uuid: ["x", 1, `${ID}'`],
    int4: [1.5, 2 ** 31, "1", null],
    int8: ["9223372036854775808", "1e3", "0x1", "-0", "01", 1, ""],
    timestamptz: ["2026-01-01", 1.5, 8.64e15, -8.64e15, null],
  } as const;
  for (const [column, values] of Object.entries(forged)) {
    for (const value of values) {
      const decode = () => decodePageToken("books", forge(1, "books", value), [column as keyof typeof forged]);
      assert.throws(decode, refused, `${column} ${value}`);
    }
  }
});
