import assert from "node:assert/strict";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { connectHttp2, dialects, EchoService, envelope, readEnvelopes, startServer } from "#shared/testing";

const pathOf = (method: string) => `/${EchoService.typeName}/${method}`;
const COMPRESSED = 1;

/** A google.protobuf.StringValue. */
function message(length: number): Buffer {
  const size = [];
  for (let rest = length; ; rest >>>= 7) {
    size.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
    if (rest <= 0x7f) break;
  }
  return Buffer.concat([Buffer.from([0x0a, ...size]), Buffer.alloc(length, "a")]);
}

for (const fast_path of [true, false]) {
  for (const [compress_min_bytes, length, isCompressed] of [
    [undefined, 1_000, false],
    [undefined, 1_100, true],
    [100_000, 20_000, false],
    [1, 10, true],
  ] as const) {
    const config = { fast_path, ...(compress_min_bytes === undefined ? {} : { compress_min_bytes }) };
    const name = `${length} bytes are ${isCompressed ? "" : "not "}compressed, with ${JSON.stringify(config)}`;

    test(name, async (t) => {
      const server = await startServer(t, { config });
      const client = await connectHttp2(t, server.url);
      const given = message(length);

      const grpcHeaders = { "content-type": "application/grpc", "grpc-accept-encoding": "gzip" };
      for (const method of ["Echo", "Chat"]) {
        const { body } = await client.call(pathOf(method), grpcHeaders, envelope(given));
        const [{ flags, data } = { flags: -1, data: Buffer.of() }] = readEnvelopes(body);
        assert.equal(flags, isCompressed ? COMPRESSED : 0, method);
        assert.deepEqual(isCompressed ? gunzipSync(data) : data, given, method);
      }

      const connectHeaders = { "content-type": dialects.connect.contentType, "accept-encoding": "gzip" };
      const connect = await client.call(pathOf("Echo"), connectHeaders, given);
      assert.equal(connect.headers["content-encoding"], isCompressed ? "gzip" : undefined);
      assert.deepEqual(isCompressed ? gunzipSync(connect.body) : connect.body, given);
    });
  }

  test(`what is compressed says so, whatever interceptors have answered, with fast_path: ${fast_path}`, async (t) => {
    const server = await startServer(t, {
      config: { fast_path, compress_min_bytes: 1 },
      interceptors: [
        (next) => async (request) => {
          const response = await next(request);
          return { ...response, header: new Headers({ "x-own": "1" }) };
        },
      ],
    });
    const client = await connectHttp2(t, server.url);
    for (const contentType of ["application/grpc", "application/grpc-web"]) {
      const headers = { "content-type": contentType, "grpc-accept-encoding": "gzip" };
      const answer = await client.call(pathOf("Echo"), headers, envelope(message(10)));
      assert.equal(answer.headers["grpc-encoding"], "gzip", contentType);
      assert.equal(readEnvelopes(answer.body)[0]?.flags, COMPRESSED, contentType);
    }
  });
}
