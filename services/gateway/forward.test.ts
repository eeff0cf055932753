import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, createRouterTransport, type Transport } from "@connectrpc/connect";
import { clientOf, EchoService, echo, refusalOf } from "#shared/testing";
import { forward } from "./forward.ts";

const headers = { request: ["x-tenant"], response: [] };

/** A client of a gateway, without a network, before whatever answers as told. */
function clientBefore(transport: Transport) {
  return clientOf(EchoService, (router) => forward(router, EchoService, { name: "echo-service", transport, headers }));
}

async function* texts(...values: string[]) {
  for (const value of values) yield { value };
}

test("methods of every kind are forwarded from their descriptors", async () => {
  const client = clientBefore(createRouterTransport((router) => router.service(EchoService, echo)));
  assert.equal((await client.echo({ value: "a" })).value, "a");
  assert.equal((await client.read({ value: "b" })).value, "b");
  assert.equal((await client.collect(texts("a", "b", "c"))).value, "abc");
  const expanded = await Array.fromAsync(client.expand({ value: "xyz" }), ({ value }) => value);
  assert.deepEqual(expanded, ["x", "y", "z"]);
  const chatted = await Array.fromAsync(client.chat(texts("1", "2")), ({ value }) => value);
  assert.deepEqual(chatted, ["1", "2"]);
});

test("what went wrong on this side of the service keeps a code that helps, and none of its words", async () => {
  const expected = [
    [Code.Unavailable, "unavailable", "PEER_UNAVAILABLE"],
    [Code.ResourceExhausted, "resource_exhausted", "PEER_FAILED"],
    [Code.Internal, "internal", "PEER_FAILED"],
  ] as const;
  for (const [peers, code, reason] of expected) {
    const fail = () => Promise.reject(new ConnectError("10.0.0.7 said no", peers));
    const client = clientBefore({ unary: fail, stream: fail });
    for (const call of [
      () => client.echo({}),
      () => client.collect(texts("a")),
      () => Array.fromAsync(client.expand({ value: "a" })),
    ]) {
      const refusal = await refusalOf(call());
      assert.deepEqual([refusal.code, refusal.reason, refusal.metadata["service"]], [code, reason, "echo-service"]);
    }
  }
});
