// A stock @grpc/grpc-js client, from our proto files, against our server.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { ServiceImpl } from "@connectrpc/connect";
import grpc from "@grpc/grpc-js";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { OrderService, OrderStatus } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { DomainError } from "#shared/errors";
import { startServer, within } from "#shared/testing";
import { clientOf, loadService, type Message, serverStream, unary } from "../support/grpc-js.ts";
import { readDetails } from "../support/rpc-status.ts";

const users = loadService("user/v1/user.proto", "user.v1.UserService");
const orders = loadService("order/v1/order.proto", "order.v1.OrderService");

interface Handlers {
  readonly user?: Partial<ServiceImpl<typeof UserService>>;
  readonly order?: Partial<ServiceImpl<typeof OrderService>>;
}

/** Our server with these handlers, and grpc-js clients of it. */
async function start(t: TestContext, { user = {}, order = {} }: Handlers) {
  const server = await startServer(t, {
    routes: (router) => router.service(UserService, user).service(OrderService, order),
    // The messages here are larger than their rules allow.
    validate: false,
  });
  return { users: clientOf(t, users, server.url), orders: clientOf(t, orders, server.url), log: server.log };
}

const greeting = { sayHello: ({ name }: { name: string }) => ({ message: `Hello ${name}!` }) };

test("a unary call", async (t) => {
  const { users } = await start(t, { user: greeting });
  const { error, response } = await unary(users, "SayHello", { name: "Ada" });
  assert.equal(error, null);
  assert.deepEqual(response, { message: "Hello Ada!" });
});

test("a message of 1 MB in both directions", async (t) => {
  const { users } = await start(t, { user: { sayHello: ({ name }) => ({ message: name }) } });
  const name = "x".repeat(1_000_000);
  const { response } = await unary(users, "SayHello", { name });
  assert.ok(response?.["message"] === name);
});

test("a hundred calls at once on one connection", async (t) => {
  const { users } = await start(t, { user: greeting });
  const names = Array.from({ length: 100 }, (_, n) => `${n}`);
  const outcomes = await Promise.all(names.map((name) => unary(users, "SayHello", { name })));
  assert.deepEqual(
    outcomes.map(({ response }) => response?.["message"]),
    names.map((name) => `Hello ${name}!`),
  );
});

test("a stream that ends, its messages in order", async (t) => {
  const { orders } = await start(t, {
    order: {
      async *watchOrder({ id }) {
        yield { order: { id, status: OrderStatus.PENDING, totalCents: 2n ** 62n } };
        yield { order: { id, status: OrderStatus.CONFIRMED } };
      },
    },
  });
  const received: unknown[] = [];
  for await (const { order } of serverStream(orders, "WatchOrder", { id: "7" })) {
    received.push([order.id, order.status, order.total_cents]);
  }
  assert.deepEqual(received, [
    ["7", "ORDER_STATUS_PENDING", String(2n ** 62n)],
    ["7", "ORDER_STATUS_CONFIRMED", "0"],
  ]);
});

test("a stream that the server ends with an error, after what came before it", async (t) => {
  const { orders } = await start(t, {
    order: {
      async *watchOrder({ id }) {
        yield { order: { id } };
        throw new DomainError("not_found", "ORDER_NOT_FOUND", "gone");
      },
    },
  });
  let received = 0;
  const error = await within(
    (async () => {
      for await (const _ of serverStream(orders, "WatchOrder", { id: "7" })) received += 1;
    })().catch((error: grpc.ServiceError) => error),
  );
  assert.equal(received, 1);
  assert.equal(error?.code, grpc.status.NOT_FOUND);
});

test("an error with code, message, details and trailers", async (t) => {
  const { users } = await start(t, {
    user: {
      getUser({ id }, { responseTrailer }) {
        responseTrailer.set("x-quota-left", "3");
        throw new DomainError("not_found", "USER_NOT_FOUND", "hay ningún usuario", { metadata: { user_id: id } });
      },
    },
  });
  const { error, trailer } = await unary(users, "GetUser", { id: "7" });
  assert.equal(error?.code, grpc.status.NOT_FOUND);
  // Percent-encoded on the wire.
  assert.equal(error.details, "hay ningún usuario");
  const [status] = trailer!.get("grpc-status-details-bin");
  const [info] = readDetails(status as Buffer, ErrorInfoSchema);
  assert.equal(info?.reason, "USER_NOT_FOUND");
  assert.deepEqual(info.metadata, { user_id: "7" });
  assert.deepEqual(trailer!.get("x-quota-left"), ["3"]);
});

test("a method that is not served is UNIMPLEMENTED", async (t) => {
  const { users } = await start(t, { user: greeting });
  const { error } = await unary(users, "ListUsers", {});
  assert.equal(error?.code, grpc.status.UNIMPLEMENTED);
});

test("the client's deadline reaches the handler, ends the call in time, and fires the handler's signal", async (t) => {
  const signalled = Promise.withResolvers<void>();
  let timeoutMs: number | undefined;
  const { users } = await start(t, {
    user: {
      sayHello(_request, context) {
        timeoutMs = context.timeoutMs();
        context.signal.addEventListener("abort", () => signalled.resolve());
        return new Promise(() => {});
      },
    },
  });
  const { error } = await unary(users, "SayHello", { name: "Ada" }, { deadline: Date.now() + 300 });
  assert.equal(error?.code, grpc.status.DEADLINE_EXCEEDED);
  assert.ok(timeoutMs !== undefined && timeoutMs > 0 && timeoutMs <= 300, `the handler had ${timeoutMs} ms`);
  await within(signalled.promise, "the handler's signal");
});

test("a client that cancels fires the handler's signal, for calls and for streams", async (t) => {
  const signals: AbortSignal[] = [];
  const called = [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const;
  const { users, orders, log } = await start(t, {
    user: {
      sayHello(_request, { signal }) {
        signals.push(signal);
        called[0].resolve();
        return new Promise(() => {});
      },
    },
    order: {
      async *watchOrder(_request, { signal }) {
        signals.push(signal);
        yield {};
        called[1].resolve();
        await new Promise(() => {});
      },
    },
  });
  const { promise: started, resolve } = Promise.withResolvers<grpc.ClientUnaryCall>();
  const outcome = unary(users, "SayHello", { name: "Ada" }, { onCall: resolve });
  await within(called[0].promise);
  (await started).cancel();
  assert.equal((await outcome).error?.code, grpc.status.CANCELLED);

  const stream = serverStream(orders, "WatchOrder", { id: "7" });
  const failed = new Promise<grpc.ServiceError>((resolve) => stream.on("error", resolve));
  stream.resume();
  await within(called[1].promise);
  stream.cancel();
  assert.equal((await within(failed)).code, grpc.status.CANCELLED);
  for (const method of ["user.v1.UserService/SayHello", "order.v1.OrderService/WatchOrder"]) {
    await log.line({ msg: "call", method, code: "canceled" });
  }
  assert.deepEqual(
    signals.map(({ aborted }) => aborted),
    [true, true],
  );
});

test("metadata both ways, text and binary", async (t) => {
  const bytes = Buffer.from([0, 255, 10, 13, 128, 44]);
  const { users } = await start(t, {
    user: {
      sayHello(_request, { requestHeader, responseHeader, responseTrailer }) {
        responseHeader.set("x-echo", requestHeader.get("x-text") ?? "");
        responseHeader.set("x-echo-bin", requestHeader.get("x-bytes-bin") ?? "");
        responseTrailer.set("x-last-bin", requestHeader.get("x-bytes-bin") ?? "");
        return {};
      },
    },
  });
  const metadata = { "x-text": "plain text", "x-bytes-bin": bytes };
  const { header, trailer } = await unary(users, "SayHello", { name: "Ada" }, { metadata });
  assert.deepEqual(header?.get("x-echo"), ["plain text"]);
  assert.deepEqual(header?.get("x-echo-bin"), [bytes]);
  assert.deepEqual(trailer?.get("x-last-bin"), [bytes]);
});

test("a request of more than the server takes is RESOURCE_EXHAUSTED, and the connection goes on", async (t) => {
  const { users } = await start(t, { user: greeting });
  const { error } = await unary(users, "SayHello", { name: "x".repeat(5 * 1024 * 1024) });
  assert.equal(error?.code, grpc.status.RESOURCE_EXHAUSTED);
  const { response } = await unary(users, "SayHello", { name: "Ada" });
  assert.deepEqual(response, { message: "Hello Ada!" } satisfies Message);
});
