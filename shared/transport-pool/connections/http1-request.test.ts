import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeHttp1Request } from "./http1-request.ts";

const body = Uint8Array.of(0, 255, 128);
const exchange = {
  method: "POST",
  path: "/book.v1.BookService/GetBook",
  headers: ["content-type", "application/proto", "x-h", "caf\xe9"],
  body,
  onHeaders() {},
  onData() {},
  onTrailers() {},
  onEnd() {},
  onError() {},
};

test("a request is its line, its host, its headers, its length and its body, byte for byte", () => {
  const expected =
    "POST /book.v1.BookService/GetBook HTTP/1.1\r\nhost: books:80\r\nconnection: keep-alive\r\n" +
    "content-type: application/proto\r\nx-h: caf\xe9\r\ncontent-length: 3\r\n\r\n\0\xff\x80";
  assert.equal(encodeHttp1Request(exchange, "books:80").toString("latin1"), expected);
});

test("nobody else says where a request ends, or to whom it goes", () => {
  const headers = ["host", "other", "content-length", "7", "transfer-encoding", "chunked", "connection", "close"];
  const request = encodeHttp1Request({ ...exchange, headers }, "books:80").toString("latin1");
  assert.deepEqual(request.split("\r\n").slice(1, -2), [
    "host: books:80",
    "connection: keep-alive",
    "content-length: 3",
  ]);
});

for (const [where, spoilt] of Object.entries({
  "a value": { headers: ["x-h", "a\r\nx-i: b"] },
  "a value with LF": { headers: ["x-h", "a\nx-i: b"] },
  "a value beyond Latin-1": { headers: ["x-h", "\u010d"] },
  "a name": { headers: ["x-h: a\r\nx-i", "b"] },
  "the path": { path: "/a HTTP/1.1\r\nx-h: a" },
  "the method": { method: "POST /a HTTP/1.1\r\n" },
})) {
  test(`a request cannot be smuggled in by ${where}`, () => {
    assert.throws(() => encodeHttp1Request({ ...exchange, ...spoilt }, "books:80"), TypeError);
  });
}
