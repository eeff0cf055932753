import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import net from "node:net";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, createClient, type HandlerContext } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { fromConnectError } from "#shared/errors";
import { connectHttp2, connectTcp, EchoService, echo, startServer, until, within } from "#shared/testing";

/** A server whose `echo` answers when told to. */
async function heldServer(t: TestContext, config: Record<string, unknown> = {}) {
  const gate = Promise.withResolvers<void>();
  const contexts: HandlerContext[] = [];
  const server = await startServer(t, {
    config,
    routes: (router) =>
      router.service(EchoService, {
        ...echo,
        async echo({ value }: { value: string }, context: HandlerContext) {
          contexts.push(context);
          await gate.promise;
          return { value };
        },
        async *expand({ value }: { value: string }, context: HandlerContext) {
          contexts.push(context);
          yield { value };
          await gate.promise;
          yield { value };
        },
      }),
  });
  const began = (count: number) => until(`${count} calls`, () => contexts.length >= count);
  return { server, contexts, began, release: () => gate.resolve() };
}

test("calls go on during drain_delay, while health and readyz say not ready", async (t) => {
  const server = await startServer(t, { config: { drain_delay: "60s" } });
  const transport = createGrpcTransport({ baseUrl: server.url });
  const health = createClient(Health, transport);
  const readyz = () => fetch(`${server.url}/readyz`).then(({ status }) => status);
  assert.equal(await readyz(), 200);

  const hurry = new AbortController();
  const stopped = server.stop(hurry.signal);
  assert.equal(await readyz(), 503);
  assert.equal((await fetch(`${server.url}/livez`)).status, 200);
  assert.equal((await health.check({})).status, ServingStatus.NOT_SERVING);
  assert.equal((await createClient(EchoService, transport).echo({ value: "ada" })).value, "ada");

  hurry.abort();
  await within(stopped, "a stop that is told to hurry");
});

test("HTTP/1.1 clients are told to go from the start of drain_delay, and lose no request on a connection kept", async (t) => {
  const server = await startServer(t, { config: { drain_delay: "300ms" } });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
  t.after(() => agent.destroy());
  const kept: (string | undefined)[] = [];
  const lost: unknown[] = [];
  let isOver = false;
  const callers = Array.from({ length: 20 }, async () => {
    while (!isOver) {
      const request = http.get(`${server.url}/livez`, { agent });
      try {
        const [response] = (await once(request, "response")) as [http.IncomingMessage];
        kept.push(response.headers.connection);
        await once(response.resume(), "end");
      } catch (error) {
        // A connection that is made too late for the drain is what load balancers are to prevent.
        if (request.reusedSocket) lost.push(error);
      }
    }
  });
  await until("some answers", () => kept.length > 200);
  const stopped = server.stop();
  const before = kept.length;
  await within(stopped, "the stop");
  isOver = true;
  await Promise.all(callers);
  assert.deepEqual(lost, []);
  assert.ok(kept.length > before);
  assert.deepEqual(new Set(kept.slice(0, before)), new Set(["keep-alive"]));
  // An answer may have been on its way when the drain began.
  assert.deepEqual(new Set(kept.slice(before + 20)), new Set(["close"]));
});

test("idle connections of every kind hold nothing up", async (t) => {
  const server = await startServer(t, { config: { shutdown_timeout: "60s" } });
  const grpcClient = createClient(EchoService, createGrpcTransport({ baseUrl: server.url }));
  await grpcClient.echo({ value: "ada" });
  const http1Client = createClient(EchoService, createConnectTransport({ baseUrl: server.url, httpVersion: "1.1" }));
  await http1Client.echo({ value: "ada" });
  await connectTcp(t, server.port);
  await connectHttp2(t, server.url);
  await within(server.stop(), "the stop");
});

test("unary calls and streams in flight finish, and new connections are refused", async (t) => {
  const { server, began, release } = await heldServer(t, { shutdown_timeout: "60s" });
  const clients = [
    createClient(EchoService, createGrpcTransport({ baseUrl: server.url })),
    createClient(EchoService, createConnectTransport({ baseUrl: server.url, httpVersion: "1.1" })),
  ];
  const unary = clients.map((client) => client.echo({ value: "ada" }));
  const streams = clients.map(async (client) => {
    let count = 0;
    for await (const _ of client.expand({ value: "ada" })) count++;
    return count;
  });
  await began(4);

  const stopped = server.stop();
  await until("refused connections", () => isRefused(server.port));
  release();
  assert.deepEqual(
    (await Promise.all(unary)).map(({ value }) => value),
    ["ada", "ada"],
  );
  assert.deepEqual(await Promise.all(streams), [2, 2]);
  await within(stopped, "the stop");
});

test("after shutdown_timeout calls end with UNAVAILABLE, SHUTTING_DOWN, and their signal fires", async (t) => {
  const { server, contexts, began } = await heldServer(t, { shutdown_timeout: "50ms" });
  const clients = [
    createClient(EchoService, createGrpcTransport({ baseUrl: server.url })),
    createClient(EchoService, createConnectTransport({ baseUrl: server.url, httpVersion: "1.1" })),
  ];
  const calls = clients.flatMap((client) => [
    client.echo({ value: "ada" }),
    (async () => {
      for await (const _ of client.expand({ value: "ada" }));
    })(),
  ]);
  const failures = Promise.all(
    calls.map((call: Promise<unknown>) =>
      call.then(
        () => undefined,
        (error: unknown) => error,
      ),
    ),
  );
  await began(4);
  await within(server.stop(), "the stop");
  for (const error of await failures) {
    assert.equal(ConnectError.from(error).code, Code.Unavailable);
    assert.equal(fromConnectError(error)?.reason, "SHUTTING_DOWN");
  }
  assert.ok(contexts.every(({ signal }) => signal.aborted));
});

test("a health watch hears NOT_SERVING and then ends, so that it does not hold the drain", async (t) => {
  const server = await startServer(t, { config: { shutdown_timeout: "60s" } });
  const statuses: ServingStatus[] = [];
  const watching = (async () => {
    const health = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
    for await (const { status } of health.watch({})) statuses.push(status);
  })().catch((error: unknown) => ConnectError.from(error).code);
  await until("the first status", () => statuses.length > 0);
  await within(server.stop(), "the stop");
  assert.equal(await watching, Code.Unavailable);
  assert.deepEqual(statuses, [ServingStatus.SERVING, ServingStatus.NOT_SERVING]);
});

test("stopping twice, before the start, or without a start is fine", async (t) => {
  const server = await startServer(t);
  assert.equal(server.stop(), server.stop());
  await within(server.stop(), "the stop");
  await assert.rejects(server.start());
});

test("under load, a client that reconnects loses no call when its server gives way to another", async (t) => {
  const servers = [];
  for (let i = 0; i < 5; i++) servers.push(await startServer(t, { config: { shutdown_timeout: "10s" } }));
  let live = servers[0];
  const front = net.createServer((socket) => {
    const upstream = net.connect(live?.port ?? 0, "127.0.0.1");
    socket.on("error", () => upstream.destroy()).pipe(upstream);
    upstream.on("error", () => socket.destroy()).pipe(socket);
  });
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  t.after(() => front.close());
  const { port } = front.address() as net.AddressInfo;

  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  t.after(() => client.close());
  const call = () =>
    new Promise<void>((resolve, reject) => {
      client.makeUnaryRequest(
        `/${EchoService.typeName}/Echo`,
        (value: Buffer) => value,
        (value: Buffer) => value,
        Buffer.from([0x0a, 1, 0x61]),
        (error) => (error === null ? resolve() : reject(error)),
      );
    });

  let isOver = false;
  let calls = 0;
  const callers = Array.from({ length: 20 }, async () => {
    while (!isOver) {
      await call();
      calls++;
    }
  });
  for (const [index, server] of servers.slice(0, -1).entries()) {
    const enough = calls + 200;
    await until("some calls", () => calls >= enough);
    live = servers[index + 1];
    await within(server.stop(), "the stop");
  }
  const enough = calls + 200;
  await until("some calls at the last", () => calls >= enough);
  isOver = true;
  await Promise.all(callers);
  assert.ok(calls >= 1_000);
});

function isRefused(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", () => resolve(true));
  });
}
