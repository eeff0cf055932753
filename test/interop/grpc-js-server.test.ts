// Our transport pool against a stock @grpc/grpc-js server.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import grpc from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { OrderService, OrderStatus } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { recordLog, until, within } from "#shared/testing";
import { createTransportPool, grpcClientsSection } from "#shared/transport-pool";
import { freePort } from "../support/free-port.ts";
import { loadService, metadataOf, startGrpcServer } from "../support/grpc-js.ts";
import { refusalOf } from "../support/refusal.ts";
import { type StatusDetail, writeStatus } from "../support/rpc-status.ts";

const users = loadService("user/v1/user.proto", "user.v1.UserService");
const orders = loadService("order/v1/order.proto", "order.v1.OrderService");

function poolTo(t: TestContext, address: string) {
  const config = grpcClientsSection.parse({ services: [{ name: "peer", address }] });
  const pool = createTransportPool(config, { logger: recordLog("silent").logger, caller: "test", closeTimeoutMs: 0 });
  t.after(() => pool.close());
  return { users: pool.client("peer", UserService), orders: pool.client("peer", OrderService), pool };
}

type Unary = grpc.handleUnaryCall<{ name: string; id: string }, object>;

const greeting: { SayHello: Unary } = {
  SayHello: ({ request }, respond) => respond(null, { message: `Hello ${request.name}!` }),
};

test("unary calls, a hundred at once", async (t) => {
  const { users: client } = poolTo(t, await startGrpcServer(t, users, greeting));
  const names = Array.from({ length: 100 }, (_, n) => `${n}`);
  const answers = await Promise.all(names.map((name) => client.sayHello({ name })));
  assert.deepEqual(
    answers.map(({ message }) => message),
    names.map((name) => `Hello ${name}!`),
  );
});

test("1 MB in both directions", async (t) => {
  const { users: client } = poolTo(t, await startGrpcServer(t, users, greeting));
  const name = "x".repeat(1_000_000);
  assert.equal((await client.sayHello({ name })).message, `Hello ${name}!`);
});

test("a stream, and its end", async (t) => {
  const WatchOrder: grpc.handleServerStreamingCall<{ id: string }, object> = (call) => {
    call.write({ order: { id: call.request.id, status: "ORDER_STATUS_PENDING", total_cents: String(2n ** 62n) } });
    call.write({ order: { id: call.request.id, status: "ORDER_STATUS_CANCELLED" } });
    call.end();
  };
  const { orders: client } = poolTo(t, await startGrpcServer(t, orders, { WatchOrder }));
  const received: unknown[] = [];
  for await (const { order } of client.watchOrder({ id: "7" })) received.push([order?.status, order?.totalCents]);
  assert.deepEqual(received, [
    [OrderStatus.PENDING, 2n ** 62n],
    [OrderStatus.CANCELLED, 0n],
  ]);
});

test("an error in a stream, after what came before it", async (t) => {
  const WatchOrder: grpc.handleServerStreamingCall<{ id: string }, object> = (call) => {
    call.write({ order: { id: call.request.id } });
    call.emit("error", { code: grpc.status.ABORTED, details: "enough", metadata: metadataOf({ "x-why": "because" }) });
  };
  const { orders: client } = poolTo(t, await startGrpcServer(t, orders, { WatchOrder }));
  let received = 0;
  const watching = (async () => {
    for await (const _ of client.watchOrder({ id: "7" })) received += 1;
  })();
  assert.equal((await refusalOf(watching)).code, "Aborted");
  assert.equal(received, 1);
});

test("an error with google.rpc details", async (t) => {
  const details: StatusDetail[] = [
    {
      schema: ErrorInfoSchema,
      message: create(ErrorInfoSchema, { reason: "NAME_TAKEN", domain: "go-service", metadata: { name: "ada" } }),
    },
    {
      schema: BadRequestSchema,
      message: create(BadRequestSchema, { fieldViolations: [{ field: "name", description: "taken" }] }),
    },
  ];
  const SayHello: Unary = (_call, respond) => {
    const status = writeStatus(grpc.status.ALREADY_EXISTS, "taken", details);
    const metadata = metadataOf({ "grpc-status-details-bin": status });
    respond({ code: grpc.status.ALREADY_EXISTS, details: "taken", metadata });
  };
  const { users: client } = poolTo(t, await startGrpcServer(t, users, { SayHello }));
  assert.deepEqual(await refusalOf(client.sayHello({ name: "Ada" })), {
    code: "AlreadyExists",
    reason: "NAME_TAKEN",
    domain: "go-service",
    metadata: { name: "ada" },
    fields: ["name"],
  });
});

test("a deadline that the server sees, and that ends the call in time", async (t) => {
  const seen = Promise.withResolvers<number>();
  const cancelled = Promise.withResolvers<void>();
  const SayHello: Unary = (call) => {
    seen.resolve(Number(call.getDeadline()) - Date.now());
    call.on("cancelled", () => cancelled.resolve());
  };
  const { users: client } = poolTo(t, await startGrpcServer(t, users, { SayHello }));
  const refusal = await refusalOf(client.sayHello({ name: "Ada" }, { timeoutMs: 300 }));
  assert.equal(refusal.code, "DeadlineExceeded");
  const leftMs = await within(seen.promise);
  assert.ok(leftMs > 0 && leftMs <= 300, `the server had ${leftMs} ms`);
  await within(cancelled.promise, "the server to see the end");
});

test("a caller that leaves, which the server sees", async (t) => {
  const called = Promise.withResolvers<void>();
  const cancelled = Promise.withResolvers<void>();
  const WatchOrder: grpc.handleServerStreamingCall<{ id: string }, object> = (call) => {
    call.on("cancelled", () => cancelled.resolve());
    call.write({ order: { id: call.request.id } });
    called.resolve();
  };
  const { orders: client, pool } = poolTo(t, await startGrpcServer(t, orders, { WatchOrder }));
  const leaving = new AbortController();
  const watching = (async () => {
    for await (const _ of client.watchOrder({ id: "7" }, { signal: leaving.signal }));
  })();
  await within(called.promise);
  leaving.abort();
  assert.equal((await refusalOf(watching)).code, "Canceled");
  await within(cancelled.promise, "the server to see the end");
  await until("no open call", () => pool.states()[0]?.openCalls === 0);
});

test("metadata both ways: 8 KB of text, bytes, trailers", async (t) => {
  const bytes = Buffer.from([0, 255, 10, 13, 128, 44]);
  const long = "y".repeat(8_000);
  const SayHello: Unary = (call, respond) => {
    const [text] = call.metadata.get("x-long");
    const [received] = call.metadata.get("x-bytes-bin");
    call.sendMetadata(metadataOf({ "x-long-back": text!, "x-bytes-back-bin": received! }));
    respond(null, {}, metadataOf({ "x-last": "bye", "x-last-long": text! }));
  };
  const { users: client } = poolTo(t, await startGrpcServer(t, users, { SayHello }));
  let header = new Headers();
  let trailer = new Headers();
  await client.sayHello(
    { name: "Ada" },
    {
      headers: { "x-long": long, "x-bytes-bin": bytes.toString("base64") },
      onHeader: (headers) => {
        header = headers;
      },
      onTrailer: (trailers) => {
        trailer = trailers;
      },
    },
  );
  assert.equal(header.get("x-long-back"), long);
  assert.deepEqual(Buffer.from(header.get("x-bytes-back-bin") ?? "", "base64"), bytes);
  assert.equal(trailer.get("x-last"), "bye");
  assert.equal(trailer.get("x-last-long"), long);
});

test("a server that shuts down and comes back at the same address is called again", async (t) => {
  const first = await startServerAt(t, await freePort());
  const { users: client } = poolTo(t, `127.0.0.1:${first.port}`);
  assert.equal((await client.sayHello({ name: "1" })).message, "Hello 1!");
  await first.shutDown();
  await startServerAt(t, first.port);
  await until("an answer", () =>
    client.sayHello({ name: "2" }).then(
      ({ message }) => message === "Hello 2!",
      () => false,
    ),
  );
});

async function startServerAt(t: TestContext, port: number) {
  const server = new grpc.Server();
  server.addService(users.service, greeting);
  t.after(() => server.forceShutdown());
  const bound = await new Promise<number>((resolve, reject) =>
    server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  const shutDown = () => new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  return { port: bound, shutDown };
}
