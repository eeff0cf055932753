import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type Message, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import type { Interceptor } from "@connectrpc/connect";
import { connectHttp2, dialects, EchoService, readEnvelopes, startServer } from "#shared/testing";
import { unreadBytes } from "#shared/unread";
import { unread } from "./unread.ts";

const { grpc, connectJson } = dialects;
/** Elsewhere Connect's own handlers read every message. */
const config = { fast_path: true };
const PATH = "/testing.v1.EchoService/Echo";
const ada = toBinary(StringValueSchema, create(StringValueSchema, { value: "Ada" }));
/** Field 1, twice. */
const odd = Buffer.concat([Buffer.from([0x0a, 1, 0x61]), ada]);

const looking: Interceptor = (next) => (request) => {
  if (!request.stream) assert.equal((request.message as Message & { value: string }).value, "Ada");
  return next(request);
};
const changing: Interceptor = (next) => async (request) => {
  const response = await next(request);
  if (!response.stream) Object.assign(response.message, { value: "changed" });
  return response;
};

for (const [name, interceptors, expected] of [
  ["none looks", [], odd],
  ["one looks", [looking], Buffer.from(ada)],
  [
    "one changes the answer",
    [changing],
    Buffer.from(toBinary(StringValueSchema, create(StringValueSchema, { value: "changed" }))),
  ],
] as const) {
  test(`a handler that is marked hands messages on as they came, with what interceptors do to them: ${name}`, async (t) => {
    const server = await startServer(t, {
      config,
      interceptors: [...interceptors],
      routes: (router) =>
        router.rpc(
          EchoService.method.echo,
          unread((message) => message),
        ),
    });
    const { call } = await connectHttp2(t, server.url);
    const answer = await call(PATH, { "content-type": grpc.contentType }, grpc.body(odd));
    assert.deepEqual(readEnvelopes(answer.body)[0]?.data, expected);
  });
}

test("only marked handlers, and only messages of protobuf, are left unread", async (t) => {
  const seen: boolean[] = [];
  const note = <T extends object>(message: T) => {
    seen.push(unreadBytes(message) !== undefined);
    return message;
  };
  const server = await startServer(t, {
    config,
    routes: (router) => {
      router.rpc(EchoService.method.echo, unread(note));
      router.rpc(EchoService.method.read, note);
    },
  });
  const { call } = await connectHttp2(t, server.url);
  await call(PATH, { "content-type": grpc.contentType }, grpc.body(ada));
  await call(PATH, { "content-type": connectJson.contentType }, connectJson.body('"Ada"'));
  await call("/testing.v1.EchoService/Read", { "content-type": grpc.contentType }, grpc.body(ada));
  assert.deepEqual(seen, [true, false, false]);
});
