import assert from "node:assert/strict";
import { createServer, type IncomingHttpHeaders } from "node:http2";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { grpcJs, grpcJsFull } from "./grpc-js.ts";
import type { Peer } from "./peer.ts";
import { raw, rawFull } from "./raw.ts";

const wire = { protocol: "grpc", http: "2" } as const;

for (const [name, bare, full] of [
  ["grpc-js", grpcJs, grpcJsFull],
  ["raw", raw, rawFull],
] as const) {
  test(`${name} sends a deadline, a trace and a request id only when it is called in full`, async (t) => {
    const [first, second] = [await requestOf(t, full), await requestOf(t, full)];
    const milliseconds = /^(\d+)m$/.exec(String(first["grpc-timeout"]))?.[1];
    assert.ok(Number(milliseconds) > 4_000 && Number(milliseconds) <= 5_000);
    assert.match(String(first["traceparent"]), /^00-[\da-f]{32}-[\da-f]{16}-01$/);
    assert.match(String(first["x-request-id"]), /^[\da-f-]{36}$/);
    for (const field of ["traceparent", "x-request-id"]) assert.notEqual(first[field], second[field]);
    const { "grpc-timeout": timeout, traceparent, "x-request-id": id } = await requestOf(t, bare);
    assert.deepEqual([timeout, traceparent, id], [undefined, undefined, undefined]);
  });
}

/** The head of a call to a server that refuses it. */
async function requestOf(t: TestContext, peer: Peer): Promise<IncomingHttpHeaders> {
  const { promise: request, resolve } = Promise.withResolvers<IncomingHttpHeaders>();
  const server = createServer();
  server.on("session", (session) => t.after(() => session.destroy()));
  server.on("stream", (stream, headers) => {
    resolve(headers);
    stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "16" }, { endStream: true });
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  t.after(() => server.close());
  await assert.rejects(peer.createClient((server.address() as AddressInfo).port, wire).sayHello("Ada"));
  return await request;
}
