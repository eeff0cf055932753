import assert from "node:assert/strict";
import type http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import Fastify from "fastify";
import { DomainError, toConnectError } from "#shared/errors";
import { type Answer, connectHttp2, dialects, EchoService, echo, startServer } from "#shared/testing";

// serve-connect.ts stands in for Connect's own Fastify plugin. What the two answer to the same bytes must be the same.

const SERVICE = "test-service";

interface Text {
  value: string;
}

function answer({ value }: Text, { responseHeader, responseTrailer }: HandlerContext) {
  responseHeader.append("x-note", "one");
  responseHeader.append("x-note", "two");
  responseHeader.set("x-raw-bin", "AAEC");
  responseTrailer.set("x-end", "3");
  if (value === "refuse") {
    const error = new DomainError("not_found", "GONE", "niemand da: ü", { metadata: { id: "7" } });
    throw toConnectError(error, SERVICE);
  }
  return { value };
}

function routes(router: ConnectRouter): void {
  router.service(EchoService, {
    ...echo,
    echo: answer,
    read: answer,
    async *expand(request: Text, context: HandlerContext) {
      for (const value of request.value) yield { value };
      yield answer(request, context);
    },
  });
}

async function stockServer(t: TestContext): Promise<string> {
  const fastify = Fastify({ http2: true });
  const sessions = new Set<http2.ServerHttp2Session>();
  fastify.server.on("session", (session) => sessions.add(session));
  await fastify.register(fastifyConnectPlugin, { routes, readMaxBytes: 1_000 });
  await fastify.listen({ host: "127.0.0.1", port: 0 });
  t.after(async () => {
    for (const session of sessions) session.destroy();
    await fastify.close();
  });
  return `http://127.0.0.1:${(fastify.server.address() as AddressInfo).port}`;
}

const binary = (value: string) => toBinary(StringValueSchema, create(StringValueSchema, { value }));
const json = (value: string) => toJsonString(StringValueSchema, create(StringValueSchema, { value }));

function* requests() {
  const values = ["", "ada", "refuse", "x".repeat(900), "x".repeat(1_001)];
  for (const value of values) {
    for (const dialect of Object.values(dialects)) {
      const body = dialect.body(dialect === dialects.connectJson ? json(value) : binary(value));
      const headers = { "content-type": dialect.contentType, te: "trailers" };
      const methods = { unary: ["Echo"], streaming: ["Expand"], any: ["Echo", "Expand"] }[dialect.kind];
      for (const method of methods)
        yield { name: `${dialect.name} ${method} of ${value.length}`, method, headers, body };
    }
  }
  const { grpc, connectJson } = dialects;
  const odd = {
    "a lone prefix": Buffer.from([0, 0, 0]),
    "no message": Buffer.alloc(0),
    "not protobuf": grpc.body("\xff"),
  };
  for (const [name, body] of Object.entries(odd)) {
    yield { name, method: "Echo", headers: { "content-type": grpc.contentType, te: "trailers" }, body };
  }
  yield {
    name: "not JSON",
    method: "Echo",
    headers: { "content-type": connectJson.contentType },
    body: Buffer.from("{"),
  };
  yield {
    name: "no such codec",
    method: "Echo",
    headers: { "content-type": "application/grpc+thrift" },
    body: odd["no message"],
  };
  yield {
    name: "no such compression",
    method: "Echo",
    headers: { "content-type": grpc.contentType, "grpc-encoding": "zip" },
    body: grpc.body(binary("ada")),
  };
  yield {
    name: "a deadline that is none",
    method: "Echo",
    headers: { "content-type": grpc.contentType, "grpc-timeout": "soon" },
    body: grpc.body(binary("ada")),
  };
  yield {
    name: "a GET of a method with side effects",
    method: "Echo?encoding=json&message=%22ada%22",
    headers: { ":method": "GET" },
    body: odd["no message"],
  };
  yield {
    name: "a GET",
    method: "Read?connect=v1&encoding=json&message=%22ada%22",
    headers: { ":method": "GET" },
    body: odd["no message"],
  };
}

test("it answers as Connect's own plugin for Fastify does", async (t) => {
  const ours = await startServer(t, { routes, validate: false, config: { name: SERVICE, read_max_bytes: 1_000 } });
  const clients = [await connectHttp2(t, await stockServer(t)), await connectHttp2(t, ours.url)];
  for (const { name, method, headers, body } of requests()) {
    const [stock, mine] = await Promise.all(
      clients.map((client) => client.call(`/${EchoService.typeName}/${method}`, headers, body)),
    );
    assert.deepEqual(comparable(mine), comparable(stock), name);
  }
});

function comparable(answer: Answer | undefined) {
  assert.ok(answer !== undefined);
  const { status, headers, trailers, body, rstCode } = answer;
  // There Fastify answers before the plugin could, with a body of its own.
  if (status === 415) return { status };
  const { date: _, ...rest } = headers;
  return { status, rstCode, headers: { ...rest }, trailers: { ...trailers }, body: body.toString("latin1") };
}
