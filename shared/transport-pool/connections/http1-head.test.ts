import assert from "node:assert/strict";
import { test } from "node:test";
import { parseHttp1Head } from "./http1-head.ts";

const headOf = (lines: string) => parseHttp1Head(`HTTP/1.1 200 OK\r\n${lines}`, false).headers;

test("names are in lower case, usual ones and others, however they are written", () => {
  const headers = headOf("Content-Type: a\r\nDATE: b\r\nETag: c\r\nx-Own: d\r\nX-Request-Id: e\r\nvary: f");
  const expected = { "content-type": "a", date: "b", etag: "c", "x-own": "d", "x-request-id": "e", vary: "f" };
  assert.deepEqual({ ...headers }, { ":status": 200, ...expected });
});

test("names that a peer makes up are not kept", (t) => {
  const { set } = Map.prototype;
  const kept: unknown[] = [];
  t.mock.method(Map.prototype, "set", function (this: Map<unknown, unknown>, key: unknown, value: unknown) {
    kept.push(key);
    return set.call(this, key, value);
  });
  for (let i = 0; i < 10; i++) headOf(`X-Made-Up-${i}: 1`);
  assert.deepEqual(kept, []);
});
