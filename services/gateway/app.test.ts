import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, createClient, type HandlerContext } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { OrderService, OrderStatus } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { DomainError } from "#shared/errors";
import { createReadiness } from "#shared/lifecycle";
import { createLogger, logSection } from "#shared/logging";
import { createServer, serverSection } from "#shared/server";
import { createGatewayApp } from "./app.ts";
import { gatewayConfigSection, loadGatewayConfig } from "./config.ts";

const logger = createLogger({ name: "test", config: logSection.parse({ level: "silent" }) });

interface Upstream {
  sayHello?: (name: string, context: HandlerContext) => string | Promise<string>;
  watchOrder?: (id: string, context: HandlerContext) => AsyncIterable<OrderStatus>;
}

/** A service that answers as told, and a gateway in front of it. */
async function gatewayBefore(t: TestContext, upstream: Upstream, settings: Record<string, unknown> = {}) {
  const service = createServer({
    config: serverSection.parse({ name: "user-service", host: "127.0.0.1", port: 0 }),
    logger,
    readiness: createReadiness(),
    routes(router) {
      router.service(UserService, {
        sayHello: async ({ name }, context) => ({ message: (await upstream.sayHello?.(name, context)) ?? name }),
      });
      router.service(OrderService, {
        async *watchOrder({ id }, context) {
          for await (const status of upstream.watchOrder?.(id, context) ?? []) yield { order: { id, status } };
        },
      });
    },
  });
  await service.start();
  t.after(() => service.stop());
  const gateway = await gatewayTo(t, service.url, settings);
  return { service, gateway };
}

async function gatewayTo(t: TestContext, serviceUrl: string, settings: Record<string, unknown> = {}) {
  const app = createGatewayApp(
    gatewayConfigSection.parse({
      server: { name: "gateway", host: "127.0.0.1", port: 0 },
      grpc_clients: {
        services: [
          { name: "user-service", address: serviceUrl },
          { name: "order-service", address: serviceUrl },
        ],
      },
      cors: { origins: ["https://shop.example"] },
      ...settings,
    }),
    { logger },
  );
  await app.start();
  t.after(() => app.stop());
  return app;
}

test("a call goes through in every protocol", async (t) => {
  const { gateway } = await gatewayBefore(t, { sayHello: (name) => `Hello ${name}!` });
  const baseUrl = gateway.url;
  const transports = {
    gRPC: createGrpcTransport({ baseUrl }),
    "gRPC-Web over HTTP/1.1": createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
    "Connect over HTTP/2": createConnectTransport({ baseUrl, httpVersion: "2" }),
    "Connect GET, JSON": createConnectTransport({
      baseUrl,
      httpVersion: "1.1",
      useHttpGet: true,
      useBinaryFormat: false,
    }),
  };
  for (const [protocol, transport] of Object.entries(transports)) {
    const { message } = await createClient(UserService, transport).sayHello({ name: "Ada" });
    assert.equal(message, "Hello Ada!", protocol);
  }
  const response = await fetch(`${baseUrl}/user.v1.UserService/SayHello`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: "Ada" }),
  });
  assert.deepEqual(await response.json(), { message: "Hello Ada!" });
  assert.ok(response.headers.get("x-request-id"));
});

test("a stream comes through item by item, and ends with the service's end", async (t) => {
  const gate = Promise.withResolvers<void>();
  const { gateway } = await gatewayBefore(t, {
    async *watchOrder() {
      yield OrderStatus.PENDING;
      await gate.promise;
      yield OrderStatus.CONFIRMED;
    },
  });
  for (const transport of [
    createGrpcTransport({ baseUrl: gateway.url }),
    createConnectTransport({ baseUrl: gateway.url, httpVersion: "1.1" }),
  ]) {
    const seen: (OrderStatus | undefined)[] = [];
    for await (const { order } of createClient(OrderService, transport).watchOrder({ id: "1" })) {
      seen.push(order?.status);
      gate.resolve();
    }
    assert.deepEqual(seen, [OrderStatus.PENDING, OrderStatus.CONFIRMED]);
  }
});

test("an error comes back with its code, reason and details, and what metadata is allowed", async (t) => {
  const { gateway } = await gatewayBefore(
    t,
    {
      sayHello(_name, { responseHeader, responseTrailer }) {
        responseHeader.set("x-internal", "1");
        responseHeader.set("set-cookie", "session=1");
        responseTrailer.set("x-quota-left", "3");
        responseTrailer.set("grpc-retry-pushback-ms", "250");
        throw new DomainError("not_found", "USER_NOT_FOUND", "no such user", { metadata: { user_id: "7" } });
      },
    },
    { headers: { response: ["x-quota-left"] } },
  );
  for (const transport of [
    createGrpcTransport({ baseUrl: gateway.url }),
    createConnectTransport({ baseUrl: gateway.url, httpVersion: "1.1" }),
  ]) {
    const error = await failure(createClient(UserService, transport).sayHello({ name: "Ada" }));
    assert.equal(error.code, Code.NotFound);
    const [info] = error.findDetails(ErrorInfoSchema);
    assert.equal(info?.reason, "USER_NOT_FOUND");
    assert.equal(info?.domain, "user-service");
    assert.deepEqual(info?.metadata, { user_id: "7" });
    assert.equal(error.findDetails(ErrorInfoSchema).length, 1);
    assert.equal(error.metadata.get("x-quota-left"), "3");
    assert.equal(error.metadata.get("grpc-retry-pushback-ms"), "250");
    assert.equal(error.metadata.get("x-internal"), null);
    assert.equal(error.metadata.get("set-cookie"), null);
  }
});

test("headers pass by the allow-list, trailers all", async (t) => {
  let received = new Headers();
  const { gateway } = await gatewayBefore(
    t,
    {
      sayHello(name, { requestHeader, responseHeader, responseTrailer }) {
        received = requestHeader;
        responseHeader.set("x-public", "yes");
        responseHeader.set("x-internal", "yes");
        responseTrailer.set("x-cost", "12");
        return name;
      },
    },
    { headers: { request: ["authorization", "x-tenant"], response: ["x-public"] } },
  );
  let header = new Headers();
  let trailer = new Headers();
  await createClient(UserService, createGrpcTransport({ baseUrl: gateway.url })).sayHello(
    { name: "Ada" },
    {
      headers: {
        authorization: "Bearer abc",
        "x-tenant": "t1",
        "x-role": "admin",
        "x-request-id": "req-1",
        cookie: "a=b",
      },
      onHeader: (headers) => (header = headers),
      onTrailer: (trailers) => (trailer = trailers),
    },
  );
  assert.equal(received.get("authorization"), "Bearer abc");
  assert.equal(received.get("x-tenant"), "t1");
  assert.equal(received.get("x-role"), null);
  assert.equal(received.get("cookie"), null);
  assert.equal(received.get("x-request-id"), "req-1");
  assert.equal(received.get("x-caller"), "gateway");
  assert.equal(header.get("x-public"), "yes");
  assert.equal(header.get("x-internal"), null);
  assert.equal(trailer.get("x-cost"), "12");
});

test("the caller's deadline goes on to the service, and its end comes back", async (t) => {
  let timeoutMs: number | undefined;
  const { gateway } = await gatewayBefore(t, {
    sayHello(_name, context) {
      timeoutMs = context.timeoutMs();
      return new Promise((_resolve, reject) =>
        context.signal.addEventListener("abort", () => reject(context.signal.reason)),
      );
    },
  });
  const client = createClient(UserService, createGrpcTransport({ baseUrl: gateway.url }));
  const error = await failure(client.sayHello({ name: "Ada" }, { timeoutMs: 300 }));
  assert.equal(error.code, Code.DeadlineExceeded);
  assert.ok(timeoutMs !== undefined && timeoutMs < 300, `the service had ${timeoutMs} ms`);
});

test("a caller that leaves ends the call at the service", async (t) => {
  const began = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const { gateway } = await gatewayBefore(t, {
    async *watchOrder(_id, { signal }) {
      signal.addEventListener("abort", () => ended.resolve());
      yield OrderStatus.PENDING;
      began.resolve();
      await ended.promise;
    },
  });
  const leaving = new AbortController();
  const client = createClient(OrderService, createGrpcTransport({ baseUrl: gateway.url }));
  const watching = (async () => {
    for await (const _ of client.watchOrder({ id: "1" }, { signal: leaving.signal }));
  })();
  await began.promise;
  leaving.abort();
  assert.equal((await failure(watching)).code, Code.Canceled);
  await ended.promise;
});

test("a service that is down is UNAVAILABLE, and its address stays inside", async (t) => {
  const gateway = await gatewayTo(t, "127.0.0.1:1");
  const client = createClient(UserService, createConnectTransport({ baseUrl: gateway.url, httpVersion: "1.1" }));
  const error = await failure(client.sayHello({ name: "Ada" }));
  assert.equal(error.code, Code.Unavailable);
  assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, "PEER_UNAVAILABLE");
  assert.doesNotMatch(error.message, /127\.0\.0\.1|ECONN/);
});

test("a page of an allowed origin may call, another may not", async (t) => {
  const { gateway } = await gatewayBefore(t, {});
  const preflight = (origin: string) =>
    fetch(`${gateway.url}/user.v1.UserService/SayHello`, {
      method: "OPTIONS",
      headers: {
        origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,connect-protocol-version,connect-timeout-ms,authorization",
      },
    });
  const allowed = await preflight("https://shop.example");
  assert.equal(allowed.status, 204);
  assert.equal(allowed.headers.get("access-control-allow-origin"), "https://shop.example");
  const headers = allowed.headers.get("access-control-allow-headers")?.toLowerCase() ?? "";
  for (const name of ["connect-protocol-version", "connect-timeout-ms", "authorization", "x-grpc-web"]) {
    assert.ok(headers.includes(name), `${name} in ${headers}`);
  }
  assert.equal((await preflight("https://evil.example")).headers.get("access-control-allow-origin"), null);

  const call = await fetch(`${gateway.url}/user.v1.UserService/SayHello`, {
    method: "POST",
    headers: { origin: "https://shop.example", "content-type": "application/json" },
    body: JSON.stringify({ name: "Ada" }),
  });
  assert.equal(call.headers.get("access-control-allow-origin"), "https://shop.example");
  assert.match(call.headers.get("access-control-expose-headers") ?? "", /grpc-status/i);
});

test("the shipped configuration loads, and a service without messages stops the start", () => {
  const config = loadGatewayConfig({});
  assert.deepEqual(
    config.grpcClients.services.map(({ name }) => name),
    ["user-service", "book-service", "order-service"],
  );
  const unknown = gatewayConfigSection.parse({
    server: { name: "gateway", port: 0 },
    grpc_clients: { services: [{ name: "cart-service", address: "localhost:9004" }] },
  });
  assert.throws(() => createGatewayApp(unknown, { logger }), RangeError);
});

test("a policy of a method that does not exist, or must not have it, stops the start and is refused by a reload", (t) => {
  const configWith = (methods: object) =>
    gatewayConfigSection.parse({
      server: { name: "gateway", host: "127.0.0.1", port: 0 },
      grpc_clients: { services: [{ name: "order-service", address: "127.0.0.1:1", methods }] },
    });
  const running = createGatewayApp(configWith({}), { logger });
  t.after(() => running.stop());
  for (const [methods, fault] of [
    [{ "order.v1.OrderService/GetOrdr": { timeout: "1s" } }, /GetOrdr.*no such method/],
    [{ "order.v1.OrderService/CreateOrder": { hedge: { max: 1 } } }, /CreateOrder.*NO_SIDE_EFFECTS/],
  ] as const) {
    assert.throws(() => createGatewayApp(configWith(methods), { logger }), { name: "ConfigError", message: fault });
    assert.throws(() => running.reconfigure(configWith(methods)), { name: "ConfigError", message: fault });
  }
});

async function failure(call: Promise<unknown>): Promise<ConnectError> {
  const error = await call.then(
    () => assert.fail("the call should have failed"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ConnectError, String(error));
  return error;
}
