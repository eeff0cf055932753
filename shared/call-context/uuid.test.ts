import assert from "node:assert/strict";
import { test } from "node:test";
import { validate, version } from "uuid";
import { uuid } from "./uuid.ts";

test("ids are UUIDs of version 7, of all variants' digits, none twice", () => {
  const ids = Array.from({ length: 1_000 }, () => uuid());
  for (const id of ids) {
    assert.ok(validate(id), id);
    assert.equal(version(id), 7);
  }
  assert.equal(new Set(ids).size, ids.length);
  assert.deepEqual([...new Set(ids.map((id) => id.charAt(19)))].sort(), ["8", "9", "a", "b"]);
  // Each other digit is random: all sixteen of them occur.
  for (const place of [15, 16, 17, 20, 21, 22, ...Array.from({ length: 12 }, (_, index) => 24 + index)]) {
    assert.equal(new Set(ids.map((id) => id.charAt(place))).size, 16, `place ${place}`);
  }
});

test("ids begin with their time in milliseconds", () => {
  const timeOf = (id: string) => Number.parseInt(id.replace("-", "").slice(0, 12), 16);
  for (const ms of [0, 1, 1_700_000_000_000, 1_700_000_000_000, 1_700_000_000_001, 2 ** 48 - 1]) {
    assert.equal(timeOf(uuid(ms)), ms);
  }
  const before = Date.now();
  const time = timeOf(uuid());
  assert.ok(time >= before && time <= Date.now());
});

test("ids of later times come after those before them", () => {
  const ids = [1_000, 2_000, 70_000, 1_700_000_000_000].map((ms) => uuid(ms));
  assert.deepEqual(ids.toSorted(), ids);
});
