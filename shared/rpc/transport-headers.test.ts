import assert from "node:assert/strict";
import { test } from "node:test";
import { dropTransportHeaders, isTransportHeader, validateField } from "#shared/rpc";

const fields = ["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

test("fields of the connection, the framing and the routing belong to the transport, in any case", () => {
  for (const name of fields) {
    assert.equal(isTransportHeader(name), true, name);
    assert.equal(isTransportHeader(name.toUpperCase()), true, name);
    assert.equal(isTransportHeader(`x-${name}`), false, name);
  }
  assert.equal(isTransportHeader(":path"), true);
  for (const name of ["content-type", "grpc-timeout", "traceparent", "Authorization", "tea"]) {
    assert.equal(isTransportHeader(name), false, name);
  }
});

test("they are removed from headers, and the rest stays", () => {
  const headers = new Headers([...fields.map((name): [string, string] => [name, "1"]), ["x-own", "2"]]);
  dropTransportHeaders(headers);
  assert.deepEqual([...headers], [["x-own", "2"]]);
});

test("a field that HTTP cannot carry is refused", () => {
  validateField("x-own", "a value, with ü");
  for (const [name, value] of [
    ["a b", "1"],
    ["", "1"],
    ["x", "a\r\nb: c"],
    ["x", "\0"],
    ["ü", "1"],
  ] as const) {
    assert.throws(() => validateField(name, value), TypeError, JSON.stringify([name, value]));
  }
});
