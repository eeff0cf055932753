import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { BookService, GetBookResponseSchema } from "#gen/book/v1/book_pb.ts";
import type { ResponseHeaders } from "../connections/exchange.ts";
import { grpcFormat } from "./grpc.ts";

const bytes = toBinary(GetBookResponseSchema, create(GetBookResponseSchema, { book: { id: "b1" } }));

function framed(message: Uint8Array, flags: number): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flags);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function responseTo(encoding: string | undefined, body: Buffer) {
  const reader = grpcFormat.unary(BookService.method.getBook, 1_000).read(false);
  const headers: ResponseHeaders = { "content-type": "application/grpc+proto" };
  headers[":status"] = 200;
  if (encoding !== undefined) headers["grpc-encoding"] = encoding;
  reader.onHeaders(headers);
  reader.onData(body);
  return reader.onEnd({ "grpc-status": "0" });
}

for (const encoding of [undefined, "identity", "gzip", "br"]) {
  test(`a message that is not compressed is there at once, where its headers name ${encoding ?? "no encoding"}`, () => {
    const response = responseTo(encoding, framed(bytes, 0));
    assert.ok(!(response instanceof Promise));
    assert.deepEqual(response.message, create(GetBookResponseSchema, { book: { id: "b1" } }));
    assert.equal(response.header.get("grpc-encoding"), encoding ?? null);
    assert.equal(response.trailer.get("grpc-status"), "0");
  });
}

test("a message that is compressed is decompressed", async () => {
  const response = responseTo("gzip", framed(gzipSync(bytes), 1));
  assert.ok(response instanceof Promise);
  assert.deepEqual((await response).message, create(GetBookResponseSchema, { book: { id: "b1" } }));
});

test("a response is an object like any other: its spread has its headers", () => {
  const response = responseTo(undefined, framed(bytes, 0));
  assert.ok(!(response instanceof Promise));
  const { header, trailer, stream, method } = { ...response };
  assert.equal(header.get("content-type"), "application/grpc+proto");
  assert.equal(trailer.get("grpc-status"), "0");
  assert.equal(stream, false);
  assert.equal(method, BookService.method.getBook);
});
