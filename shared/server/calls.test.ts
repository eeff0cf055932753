import assert from "node:assert/strict";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  Code,
  ConnectError,
  createClient,
  type HandlerContext,
  type Interceptor,
  type ServiceImpl,
} from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { currentCall, remainingMs } from "#shared/call-context";
import { DomainError } from "#shared/errors";
import {
  connectHttp2,
  connectTcp,
  EchoService,
  echo,
  envelope,
  startServer,
  type TestServerOptions,
  until,
  within,
} from "#shared/testing";

const ECHO = "testing.v1.EchoService/Echo";
const EXPAND = "testing.v1.EchoService/Expand";

type Handlers = Partial<ServiceImpl<typeof EchoService>>;

async function start(t: TestContext, handlers: Handlers = {}, options: TestServerOptions = {}) {
  const server = await startServer(t, {
    routes: (router) => router.service(EchoService, { ...echo, ...handlers }),
    ...options,
  });
  const baseUrl = server.url;
  const transports = {
    grpc: createGrpcTransport({ baseUrl }),
    grpcWeb: createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
    connect: createConnectTransport({ baseUrl, httpVersion: "1.1" }),
    connectHttp2: createConnectTransport({ baseUrl, httpVersion: "2" }),
  };
  const clients = Object.values(transports).map((transport) => createClient(EchoService, transport));
  return { server, transports, clients, client: createClient(EchoService, transports.grpc) };
}

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  try {
    await within(call, "a call");
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("the call did not fail");
}

async function all(items: AsyncIterable<{ value: string }>): Promise<string[]> {
  const values: string[] = [];
  for await (const { value } of items) values.push(value);
  return values;
}

async function* texts(...values: string[]) {
  for (const value of values) yield { value };
}

/** Settles when the signal has fired, with its reason. */
async function fired({ signal }: { readonly signal: AbortSignal }): Promise<unknown> {
  if (!signal.aborted) await once(signal, "abort");
  return signal.reason;
}

// The log.

test("each call leaves one line: method, code, ms, peer, caller, trace and request id", async (t) => {
  const { server, clients } = await start(t);
  for (const [i, client] of clients.entries()) {
    const traceId = String(i + 1).repeat(32);
    const headers = {
      traceparent: `00-${traceId}-00f067aa0ba902b7-01`,
      "x-request-id": `request-${i}`,
      "x-caller": "user-service",
    };
    await client.echo({ value: "ada" }, { headers });
    await all(client.expand({ value: "abc" }, { headers }));
    await client.collect(texts("a", "b"), { headers });
    for (const method of ["Echo", "Expand", "Collect"]) {
      const line = await server.log.line({ method: `testing.v1.EchoService/${method}`, request_id: `request-${i}` });
      assert.equal(line.level, "info");
      assert.equal(line["code"], "ok");
      assert.equal(line["trace_id"], traceId);
      assert.equal(line["caller"], "user-service");
      assert.match(String(line["peer"]), /^127\.0\.0\.1:\d+$/);
      assert.ok(Number(line["ms"]) >= 0);
    }
  }
  assert.equal(server.log.matching({ msg: "call" }).length, clients.length * 3);
  assert.deepEqual(server.log.matching({ msg: "request" }), []);
});

test("a call that says nothing of itself gets ids of its own", async (t) => {
  const { server, client } = await start(t);
  await client.echo(
    { value: "ada" },
    { headers: { "x-request-id": "not fit for a log", "x-caller": "x".repeat(500) } },
  );
  const line = await server.log.line({ method: ECHO });
  assert.match(String(line["trace_id"]), /^[0-9a-f]{32}$/);
  assert.match(String(line["request_id"]), /^[0-9a-f-]{36}$/);
  assert.equal(line["caller"], undefined);
});

test("what handlers log has the call's ids, in each step of a stream too", async (t) => {
  const { server, client } = await start(t, {
    async *expand() {
      server.log.logger.info("step");
      yield { value: "a" };
      await delay(1);
      server.log.logger.info("step");
    },
  });
  await all(client.expand({ value: "" }, { headers: { "x-request-id": "mine" } }));
  assert.equal(server.log.matching({ msg: "step", request_id: "mine" }).length, 2);
});

test("health checks and reflection are logged at debug", async (t) => {
  const { server, transports } = await start(t);
  await createClient(Health, transports.grpc).check({});
  const line = await server.log.line({ method: "grpc.health.v1.Health/Check" });
  assert.equal(line.level, "debug");
});

test("a call that fails has its code in its line: the caller's faults at info, ours at error", async (t) => {
  const { server, client } = await start(t, {
    echo({ value }) {
      throw new ConnectError("no", Number(value));
    },
    async *expand({ value }) {
      yield { value };
      throw new ConnectError("no", Number(value));
    },
  });
  for (const [code, name, level] of [
    [Code.NotFound, "not_found", "info"],
    [Code.Unavailable, "unavailable", "info"],
    [Code.Unimplemented, "unimplemented", "info"],
    [Code.Internal, "internal", "error"],
    [Code.Unknown, "unknown", "error"],
    [Code.DataLoss, "data_loss", "error"],
  ] as const) {
    await failureOf(client.echo({ value: String(code) }));
    await failureOf(all(client.expand({ value: String(code) })));
    for (const method of [ECHO, EXPAND]) {
      assert.equal((await server.log.line({ method, code: name })).level, level, `${method} ${name}`);
      assert.equal(server.log.matching({ method, code: name }).length, 1);
    }
  }
});

test("cancelled calls and those past their deadline have one line each", async (t) => {
  const { server, clients } = await start(t, {
    echo: async (_request, context) => {
      await fired(context);
      return {};
    },
    async *expand(_request, context) {
      yield { value: "a" };
      await fired(context);
    },
  });
  for (const client of clients) {
    const before = server.log.matching({ msg: "call" }).length;
    // As headers: with `timeoutMs` the client would cancel at the same moment.
    const headers = { "grpc-timeout": "50m", "connect-timeout-ms": "50" };
    await failureOf(client.echo({}, { headers }));
    await failureOf(all(client.expand({}, { headers })));
    const leave = new AbortController();
    const calls = [client.echo({}, { signal: leave.signal }), all(client.expand({}, { signal: leave.signal }))];
    const failures = calls.map(failureOf);
    setTimeout(() => leave.abort(), 50);
    await Promise.all(failures);
    await until("four lines", () => server.log.matching({ msg: "call" }).length >= before + 4);
    const codes = server.log.matching({ msg: "call" }).slice(before);
    assert.deepEqual(codes.map(({ method, code }) => `${method} ${code}`).sort(), [
      `${ECHO} canceled`,
      `${ECHO} deadline_exceeded`,
      `${EXPAND} canceled`,
      `${EXPAND} deadline_exceeded`,
    ]);
  }
  assert.deepEqual(server.log.matching({ level: "error" }), []);
});

test("a call cancelled at any moment has one line, in the access log or among the requests", async (t) => {
  const { server, client } = await start(t);
  const count = 200;
  for (let i = 0; i < count; i++) {
    const leave = new AbortController();
    const call = all(client.expand({ value: "abc" }, { signal: leave.signal, headers: { "x-request-id": `id-${i}` } }));
    setTimeout(() => leave.abort(), (i % 20) / 4);
    await call.catch(() => {});
  }
  await client.echo({ value: "last" });
  await server.log.line({ method: ECHO });
  const lines = server.log.lines.filter(({ msg }) => msg === "call" || msg === "request");
  // Some were cancelled before they had left the client.
  assert.ok(lines.length <= count + 1);
  const ids = server.log.matching({ msg: "call" }).map((line) => line["request_id"]);
  assert.equal(new Set(ids).size, ids.length);
  assert.deepEqual(server.log.matching({ level: "error" }), []);
});

test("an answer that cannot be encoded is INTERNAL, and logged with its cause", async (t) => {
  // What type-checks and is no int32, such as a sum that a database has made.
  const notInt32 = 2 ** 40;
  const { server, transports } = await start(
    t,
    {},
    {
      validate: false,
      routes(router) {
        router.service(BookService, { getBook: () => ({ book: { stock: notInt32 } }) });
        router.service(OrderService, {
          async *watchOrder() {
            yield { order: {} };
            yield { order: { items: [{ quantity: notInt32 }] } };
          },
        });
      },
    },
  );
  for (const transport of Object.values(transports)) {
    const before = server.log.matching({ level: "error", msg: "call failed" }).length;
    assert.equal((await failureOf(createClient(BookService, transport).getBook({}))).code, Code.Internal);
    const watched = Array.fromAsync(createClient(OrderService, transport).watchOrder({}));
    assert.equal((await failureOf(watched)).code, Code.Internal);
    await until("both lines", () => server.log.matching({ level: "error", msg: "call failed" }).length === before + 2);
  }
  for (const { err, code } of server.log.matching({ level: "error" })) {
    assert.match((err as Error).message, /invalid int32/);
    assert.equal(code, "internal");
  }
  assert.deepEqual(server.log.matching({ code: "ok" }), []);
});

test("an answer over write_max_bytes is RESOURCE_EXHAUSTED, and the log says so", async (t) => {
  const { server, clients } = await start(t, {}, { config: { write_max_bytes: 100 } });
  for (const [i, client] of clients.entries()) {
    const error = await failureOf(client.echo({ value: "x".repeat(200) }));
    assert.equal(error.code, Code.ResourceExhausted);
    const fields = { method: ECHO, code: "resource_exhausted", level: "error" };
    await until("its line", () => server.log.matching(fields).length === i + 1);
  }
});

// Errors.

test("a plain error tells the caller nothing and the log everything", async (t) => {
  const cause = new Error("connect ECONNREFUSED 10.0.0.1:5432");
  const secret = () => new Error("cannot reach the database", { cause });
  const { server, clients } = await start(t, {
    echo: () => Promise.reject(secret()),
    expand: async function* () {
      yield { value: "a" };
      throw secret();
    },
    collect: async () => {
      throw secret();
    },
  });
  for (const client of clients) {
    for (const call of [() => client.echo({}), () => all(client.expand({})), () => client.collect(texts("a"))]) {
      const error = await failureOf(call());
      assert.equal(error.code, Code.Internal);
      assert.deepEqual(error.details, []);
      const told = [error.rawMessage, ...[...error.metadata].flat()].join(" ");
      assert.doesNotMatch(told, /database|ECONNREFUSED|10\.0\.0\.1/);
    }
  }
  const logged = server.log.matching({ msg: "handler failed" });
  assert.equal(logged.length, clients.length * 3);
  for (const { level, err, trace_id } of logged) {
    assert.equal(level, "error");
    assert.match((err as Error).message, /cannot reach the database.*ECONNREFUSED/);
    assert.match(String(trace_id), /^[0-9a-f]{32}$/);
  }
});

test("what is thrown and no Error is as little told", async (t) => {
  for (const thrown of ["the password", undefined, null, 42, { secret: true }]) {
    const { client } = await start(t, { echo: () => Promise.reject(thrown) });
    const error = await failureOf(client.echo({}));
    assert.equal(error.code, Code.Internal);
    assert.doesNotMatch(error.rawMessage, /password|42|secret/);
  }
});

test("a DomainError has its code, an ErrorInfo of this service and a BadRequest, in every protocol", async (t) => {
  const refuse = () => {
    throw new DomainError("failed_precondition", "OUT_OF_STOCK", "sold out", {
      metadata: { book_id: "b1" },
      fields: [{ field: "items[0].quantity", description: "only 2 left", reason: "stock" }],
      cause: new Error("row 17"),
    });
  };
  const { server, clients } = await start(t, { echo: refuse, expand: refuse });
  for (const client of clients) {
    for (const call of [() => client.echo({}), () => all(client.expand({}))]) {
      const error = await failureOf(call());
      assert.equal(error.code, Code.FailedPrecondition);
      const [info] = error.findDetails(ErrorInfoSchema);
      assert.equal(info?.reason, "OUT_OF_STOCK");
      assert.equal(info.domain, "test-service");
      assert.deepEqual({ ...info.metadata }, { book_id: "b1" });
      const [badRequest] = error.findDetails(BadRequestSchema);
      assert.equal(badRequest?.fieldViolations[0]?.field, "items[0].quantity");
      assert.equal(badRequest.fieldViolations[0].reason, "stock");
      assert.doesNotMatch(error.message, /row 17/);
    }
  }
  const { err } = await server.log.line({ level: "warn", msg: "call refused" });
  assert.match((err as Error).message, /row 17/);
});

test("a ConnectError passes with its details and metadata", async (t) => {
  const { clients } = await start(t, {
    echo() {
      const error = new ConnectError("later", Code.ResourceExhausted, { "x-limit": "7" });
      error.details.push({ desc: RetryInfoSchema, value: { retryDelay: { seconds: 3n } } });
      throw error;
    },
  });
  for (const client of clients) {
    const error = await failureOf(client.echo({}));
    assert.equal(error.code, Code.ResourceExhausted);
    assert.equal(error.rawMessage, "later");
    assert.equal(error.metadata.get("x-limit"), "7");
    assert.equal(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds, 3n);
  }
});

test("a method that nobody has written is UNIMPLEMENTED", async (t) => {
  const { clients } = await start(t, {}, { routes: (router) => router.service(EchoService, {}) });
  for (const client of clients) assert.equal((await failureOf(client.echo({}))).code, Code.Unimplemented);
});

// Deadlines.

test("the deadline that holds is the shorter of the caller's and the server's, and the handler sees it", async (t) => {
  const seen: number[] = [];
  const see = () => {
    const call = currentCall();
    assert.ok(call);
    seen.push(remainingMs(call));
    return { value: "" };
  };
  const { clients } = await start(
    t,
    {
      echo: see,
      expand: async function* () {
        yield see();
      },
    },
    { config: { max_timeout: "10s", max_stream_timeout: "20s" } },
  );
  for (const client of clients) {
    for (const [timeoutMs, unaryMs, streamMs] of [
      [5_000, 5_000, 5_000],
      [60_000, 10_000, 20_000],
      [undefined, 10_000, 20_000],
    ] as const) {
      const options = timeoutMs === undefined ? {} : { timeoutMs };
      await client.echo({}, options);
      await all(client.expand({}, options));
      const [unary = 0, stream = 0] = seen.splice(0);
      assert.ok(unary > unaryMs - 3_000 && unary <= unaryMs, `${timeoutMs}: ${unary} ms for a unary call`);
      assert.ok(stream > streamMs - 3_000 && stream <= streamMs, `${timeoutMs}: ${stream} ms for a stream`);
    }
  }
});

test("without max_stream_timeout a stream has no deadline but the caller's", async (t) => {
  const seen: number[] = [];
  const { client } = await start(t, {
    async *expand() {
      const call = currentCall();
      if (call !== undefined) seen.push(remainingMs(call));
      yield {};
    },
  });
  await all(client.expand({}));
  await all(client.expand({}, { timeoutMs: 5_000 }));
  const [endless, bounded = 0] = seen;
  assert.equal(endless, Number.POSITIVE_INFINITY);
  assert.ok(bounded > 2_000 && bounded <= 5_000);
});

test("DEADLINE_EXCEEDED comes in time though the handler looks at no signal", async (t) => {
  const gate = Promise.withResolvers<void>();
  t.after(() => gate.resolve());
  const { clients } = await start(
    t,
    {
      echo: async () => {
        await gate.promise;
        return {};
      },
      async *expand() {
        yield { value: "a" };
        await gate.promise;
      },
      collect: async () => {
        await gate.promise;
        return {};
      },
    },
    { config: { max_timeout: "100ms", max_stream_timeout: "100ms" } },
  );
  for (const client of clients) {
    for (const call of [() => client.echo({}), () => all(client.expand({})), () => client.collect(texts("a"))]) {
      assert.equal((await failureOf(call())).code, Code.DeadlineExceeded);
    }
  }
});

test("a handler that fails after its deadline hurts nobody, and can be found at debug", async (t) => {
  const { server, client } = await start(t, {
    echo: async (_request, context) => {
      await fired(context);
      throw new TypeError("too late to tell");
    },
  });
  const headers = { "grpc-timeout": "50m" };
  assert.equal((await failureOf(client.echo({}, { headers }))).code, Code.DeadlineExceeded);
  const line = await server.log.line({ level: "debug", msg: "handler failed after its call had ended" });
  assert.match((line["err"] as Error).message, /too late to tell/);
});

// Cancellation.

test("the handler's signal fires when the caller leaves, with CANCELED, and not before", async (t) => {
  const contexts: HandlerContext[] = [];
  const { server, clients } = await start(t, {
    echo: async (_request, context) => {
      contexts.push(context);
      await fired(context);
      return {};
    },
    async *expand(_request, context) {
      contexts.push(context);
      yield { value: "a" };
      await fired(context);
    },
  });
  for (const client of clients) {
    const leave = new AbortController();
    const calls = [client.echo({}, { signal: leave.signal }), all(client.expand({}, { signal: leave.signal }))];
    const failures = calls.map(failureOf);
    await until("both handlers", () => contexts.length === 2);
    for (const { signal } of contexts) assert.equal(signal.aborted, false);
    leave.abort();
    for (const context of contexts.splice(0)) {
      assert.equal(ConnectError.from(await within(fired(context), "the signal")).code, Code.Canceled);
    }
    for (const failure of failures) assert.equal((await failure).code, Code.Canceled);
  }
  assert.deepEqual(server.log.matching({ level: "error" }), []);
});

test("a connection that breaks cancels its calls", async (t) => {
  const contexts: HandlerContext[] = [];
  const { server } = await start(t, {
    echo: async (_request, context) => {
      contexts.push(context);
      await fired(context);
      return {};
    },
  });
  const { socket } = await connectTcp(t, server.port);
  socket.write(`POST /${ECHO} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n"a"`);
  await until("the handler", () => contexts.length === 1);
  socket.destroy();
  const { session, call } = await connectHttp2(t, server.url);
  void call(`/${ECHO}`, { "content-type": "application/grpc" }, envelope(""));
  await until("the second handler", () => contexts.length === 2);
  session.destroy();
  for (const context of contexts) await within(fired(context), "the signal");
  await until("both lines", () => server.log.matching({ method: ECHO, code: "canceled" }).length === 2);
});

test("a stream's generator is closed when the caller leaves: between items, in a wait, and in a full pipe", async (t) => {
  const ends: string[] = [];
  const { server, clients } = await start(t, {
    async *expand({ value }, context) {
      try {
        yield { value: "first" };
        if (value === "wait") await fired(context);
        // More than a connection takes that nobody reads.
        for (;;) yield { value: value === "flood" ? "x".repeat(100_000) : "more" };
      } finally {
        ends.push(value);
      }
    },
  });
  for (const client of clients) {
    for (const how of ["items", "wait", "flood"]) {
      const leave = new AbortController();
      const items = client.expand({ value: how }, { signal: leave.signal })[Symbol.asyncIterator]();
      await within(items.next(), "the first item");
      if (how === "flood") await delay(30);
      leave.abort();
      await items.next().catch(() => {});
      await until(`the end of ${how}`, () => ends.at(-1) === how);
      ends.length = 0;
    }
  }
  await until("every line", () => server.log.matching({ method: EXPAND }).length === clients.length * 3);
  for (const { code } of server.log.matching({ method: EXPAND })) assert.equal(code, "canceled");
});

test("a generator is closed in its call, so that what it cleans up with has its ids", async (t) => {
  const ids: (string | undefined)[] = [];
  const { client } = await start(t, {
    async *expand(_request, context) {
      try {
        yield {};
        await fired(context);
      } finally {
        ids.push(currentCall()?.requestId);
      }
    },
  });
  const leave = new AbortController();
  const items = client
    .expand({}, { signal: leave.signal, headers: { "x-request-id": "mine" } })
    [Symbol.asyncIterator]();
  await items.next();
  leave.abort();
  await items.next().catch(() => {});
  await until("the cleaning up", () => ids.length === 1);
  assert.deepEqual(ids, ["mine"]);
});

test("the signal of a call that went well fires without a failure, when it has ended", async (t) => {
  const contexts: HandlerContext[] = [];
  const { clients } = await start(t, {
    echo: ({ value }, context) => {
      contexts.push(context);
      return { value };
    },
  });
  for (const client of clients) await client.echo({ value: "ada" });
  for (const { signal } of contexts) {
    if (signal.aborted) assert.equal((signal.reason as DOMException).name, "AbortError");
  }
});

// The context.

test("currentCall answers in every kind of handler, at each step", async (t) => {
  const seen: (string | undefined)[] = [];
  const see = () => void seen.push(currentCall()?.requestId);
  const { client } = await start(t, {
    echo: async ({ value }) => {
      see();
      await delay(1);
      see();
      return { value };
    },
    async *expand() {
      see();
      yield {};
      await delay(1);
      see();
      yield {};
      see();
    },
    async collect(requests) {
      see();
      for await (const _ of requests) see();
      return {};
    },
    async *chat(requests) {
      see();
      for await (const _ of requests) {
        see();
        yield {};
        see();
      }
    },
  });
  const headers = { "x-request-id": "mine" };
  await client.echo({}, { headers });
  await all(client.expand({}, { headers }));
  await client.collect(texts("a", "b"), { headers });
  await all(client.chat(texts("a", "b"), { headers }));
  assert.deepEqual(
    seen,
    Array.from({ length: 13 }, () => "mine"),
  );
  assert.equal(currentCall(), undefined);
});

test("the call's signal in the context is the handler's", async (t) => {
  const seen: boolean[] = [];
  const { client } = await start(t, {
    echo: (_request, { signal }) => {
      seen.push(currentCall()?.signal === signal);
      return {};
    },
  });
  await client.echo({});
  assert.deepEqual(seen, [true]);
});

test("the service's own interceptors are innermost: after validation, in the call, and their errors are mapped", async (t) => {
  const order: string[] = [];
  const own: Interceptor = (next) => async (request) => {
    order.push(`own ${currentCall()?.requestId}`);
    const response = await next(request);
    order.push("own, after");
    if (request.header.has("x-fail")) throw new DomainError("permission_denied", "NOT_YOURS", "not yours");
    return response;
  };
  const { client } = await start(
    t,
    {
      echo: () => {
        order.push("handler");
        return {};
      },
    },
    { interceptors: [own] },
  );
  await client.echo({}, { headers: { "x-request-id": "mine" } });
  assert.deepEqual(order, ["own mine", "handler", "own, after"]);
  const error = await failureOf(client.echo({}, { headers: { "x-fail": "1" } }));
  assert.equal(error.code, Code.PermissionDenied);
});

test("a failure of an observer of calls is logged, and hurts no call", async (t) => {
  const fail = () => {
    throw new Error("the disk is full");
  };
  const { server, client } = await start(t, undefined, { observers: [{ begin: fail, end: fail }] });
  assert.equal((await client.echo({ value: "ada" })).value, "ada");
  await until("both lines", () => server.log.matching({ level: "error", method: ECHO }).length === 2);
  const { err } = await server.log.line({ level: "error", method: ECHO });
  assert.equal((err as Error).message, "the disk is full");
});

test("headers and trailers that a handler sets arrive, cookies one by one", async (t) => {
  const { clients } = await start(t, {
    echo: (_request, { responseHeader, responseTrailer }) => {
      responseHeader.set("x-head", "h");
      responseHeader.append("set-cookie", "a=1");
      responseHeader.append("set-cookie", "b=2");
      responseTrailer.set("x-tail", "t");
      return {};
    },
  });
  for (const client of clients) {
    let header = new Headers();
    let trailer = new Headers();
    await client.echo(
      {},
      {
        onHeader: (headers) => {
          header = headers;
        },
        onTrailer: (headers) => {
          trailer = headers;
        },
      },
    );
    assert.equal(header.get("x-head"), "h");
    assert.deepEqual(header.getSetCookie(), ["a=1", "b=2"]);
    assert.equal(trailer.get("x-tail"), "t");
  }
});

test("a header that cannot be written fails its call and is logged, and the connection goes on", async (t) => {
  const { server, transports } = await start(
    t,
    {},
    {
      fastify: (fastify) =>
        void fastify.addHook("onRequest", async (request, reply) => {
          if (request.headers["x-bad"] !== undefined) reply.header("x-reply", "two\nlines");
        }),
    },
  );
  // HTTP/1.1 refuses what HTTP/2 would let through.
  const client = createClient(EchoService, transports.connect);
  await failureOf(client.echo({ value: "bad" }, { headers: { "x-bad": "1" } }));
  await server.log.line({ level: "error", method: ECHO, msg: "call cannot be answered" });
  await server.log.line({ method: ECHO, code: "internal", msg: "call failed" });
  assert.equal((await client.echo({ value: "good" })).value, "good");
});
