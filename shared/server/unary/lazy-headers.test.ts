import assert from "node:assert/strict";
import { test } from "node:test";
import { LazyHeaders } from "./lazy-headers.ts";

const fields = {
  ":path": "/a",
  "content-type": "text/plain",
  "x-two": ["one", "two"],
  "x-padded": " spaces ",
  "x-empty": "",
  "x-absent": undefined,
};
const filled = () =>
  new Headers([
    ["content-type", "text/plain"],
    ["x-two", "one"],
    ["x-two", "two"],
    ["x-padded", " spaces "],
    ["x-empty", ""],
  ]);

test("they read as headers that were filled at once", () => {
  const names = [
    ...["content-type", "Content-Type", "x-two", "x-padded", "x-empty", "x-absent"],
    ...["x-none", "constructor", "__proto__"],
  ];
  for (const name of names) {
    assert.equal(new LazyHeaders(fields).get(name), filled().get(name), name);
    assert.equal(new LazyHeaders(fields).has(name), filled().has(name), name);
  }
  for (const name of [":path", "not a name", ""]) {
    assert.throws(() => new LazyHeaders(fields).get(name), TypeError);
    assert.throws(() => new LazyHeaders(fields).has(name), TypeError);
  }
});

test("they walk and copy as headers that were filled at once", () => {
  const expected = [...filled()];
  assert.deepEqual([...new LazyHeaders(fields)], expected);
  assert.deepEqual([...new LazyHeaders(fields).entries()], expected);
  assert.deepEqual([...new LazyHeaders(fields).keys()], [...filled().keys()]);
  assert.deepEqual([...new LazyHeaders(fields).values()], [...filled().values()]);
  assert.deepEqual([...new Headers(new LazyHeaders(fields))], expected);
  assert.deepEqual([...new Request("http://localhost", { headers: new LazyHeaders(fields) }).headers], expected);
  const walked: [string, string][] = [];
  new LazyHeaders(fields).forEach((value, name) => {
    walked.push([name, value]);
  });
  assert.deepEqual(walked, expected);
});

test("what is written to them is theirs, and not that of the fields", () => {
  const headers = new LazyHeaders(fields);
  assert.equal(headers.untouched, fields);
  headers.append("x-two", "three");
  headers.set("x-new", "1");
  headers.delete("content-type");
  headers.append("set-cookie", "a=1");
  headers.append("set-cookie", "b=2");
  assert.equal(headers.untouched, undefined);
  assert.equal(headers.get("x-two"), "one, two, three");
  assert.equal(headers.get("x-new"), "1");
  assert.equal(headers.has("content-type"), false);
  assert.deepEqual(headers.getSetCookie(), ["a=1", "b=2"]);
  assert.equal(fields["content-type"], "text/plain");
});
