import assert from "node:assert/strict";
import { test } from "node:test";
import { Http1Begun } from "./http1-begun.ts";

test("what comes byte by byte is all there, and was moved a few times only", () => {
  const all = Buffer.from(Array.from({ length: 16_384 }, (_, at) => at % 251));
  const begun = new Http1Begun(all.subarray(0, 1));
  const rooms = new Set<ArrayBufferLike>();
  for (let at = 1; at < all.length; at++) {
    begun.add(all.subarray(at, at + 1));
    rooms.add(begun.bytes().buffer);
  }
  assert.deepEqual(begun.bytes(), all);
  assert.equal(begun.length(), all.length);
  assert.ok(rooms.size < 10);
});
