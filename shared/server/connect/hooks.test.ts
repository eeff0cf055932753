import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectHttp2, dialects, EchoService, echo, startServer } from "#shared/testing";

const { connectJson } = dialects;
const PATH = `/${EchoService.typeName}/Echo`;

for (const fast_path of [true, false]) {
  test(`hooks that look at an answer when it is over see what was answered, with fast_path: ${fast_path}`, async (t) => {
    const seen = Promise.withResolvers<unknown[]>();
    const server = await startServer(t, {
      config: { fast_path },
      routes: (router) =>
        router.service(EchoService, {
          ...echo,
          echo() {
            throw new ConnectError("no such thing", Code.NotFound);
          },
        }),
      fastify: (fastify) => {
        fastify.addHook("onResponse", async (_, { raw }) => {
          seen.resolve([raw.statusCode, raw.writableEnded, raw.getHeader("content-type")]);
        });
      },
    });
    const client = await connectHttp2(t, server.url);
    const { status } = await client.call(PATH, { "content-type": connectJson.contentType }, Buffer.from('"a"'));
    assert.equal(status, 404);
    assert.deepEqual(await seen.promise, [404, true, "application/json"]);
  });

  test(`hooks that wait for the head of an answer are heard, with fast_path: ${fast_path}`, async (t) => {
    const server = await startServer(t, {
      config: { fast_path },
      fastify: (fastify) => {
        fastify.addHook("onRequest", async (_, { raw }) => {
          const { writeHead } = raw;
          // As response-time and others of its kind do.
          raw.writeHead = (status: number) => {
            raw.setHeader("x-own", "1");
            return writeHead.call(raw, status);
          };
        });
      },
    });
    const client = await connectHttp2(t, server.url);
    const { headers } = await client.call(PATH, { "content-type": connectJson.contentType }, Buffer.from('"a"'));
    assert.equal(headers["x-own"], "1");
  });
}
