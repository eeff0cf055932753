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

test("a walk through plain fields goes as if they had been filled, and fills nothing", () => {
  const plain = { "x-b": "2", ":path": "/a", "x-a": "1", "x-none": undefined, "x-0": "with  spaces" };
  const walked = (headers: Headers) => {
    const pairs: [string, string, boolean][] = [];
    headers.forEach((value, name, of) => {
      pairs.push([name, value, of === headers]);
    });
    return pairs;
  };
  const headers = new LazyHeaders(plain);
  assert.deepEqual(
    walked(headers),
    walked(
      new Headers([
        ["x-b", "2"],
        ["x-a", "1"],
        ["x-0", "with  spaces"],
      ]),
    ),
  );
  assert.equal(headers.untouched, plain);
  headers.set("x-c", "3");
  assert.deepEqual(
    walked(headers).map(([name]) => name),
    ["x-0", "x-a", "x-b", "x-c"],
  );
});

test("what is set is read as from headers that were filled at once, whatever it is", () => {
  const values = [
    "plain",
    "two words",
    "two  spaces",
    "",
    " padded",
    "padded ",
    "tab\there",
    "\u00fc",
    "a\nb",
    "a\0",
    "\u20ac",
    7,
  ];
  const names = ["x-new", "content-type", "x-two", "X-Upper", "set-cookie", "x_odd", "not a name", "", "__proto__"];
  for (const name of names) {
    for (const value of values as string[]) {
      const [lazy, full] = [new LazyHeaders(fields), filled()];
      const set = (headers: Headers) => {
        try {
          headers.set(name, value);
          return headers.get(name);
        } catch (error) {
          return (error as Error).name;
        }
      };
      assert.equal(set(lazy), set(full), `${name}: ${JSON.stringify(value)}`);
      assert.deepEqual([...lazy], [...full], `${name}: ${JSON.stringify(value)}`);
    }
  }
});

test("fields that were set are at hand until something else is done", () => {
  const headers = new LazyHeaders({ "x-one": "1" });
  headers.set("x-two", "2");
  assert.equal(headers.untouched, undefined);
  assert.deepEqual(headers.fields, { "x-one": "1", "x-two": "2" });
  headers.append("x-two", "3");
  assert.equal(headers.fields, undefined);
  assert.deepEqual(
    [...headers],
    [
      ["x-one", "1"],
      ["x-two", "2, 3"],
    ],
  );
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
