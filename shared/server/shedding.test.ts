import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "#gen/grpc/reflection/v1/reflection_pb.ts";
import { fromConnectError } from "#shared/errors";
import { serverSection } from "#shared/server";
import { EchoService, echo, startServer, type TestServerOptions, until, within } from "#shared/testing";

const transports: Readonly<Record<string, (baseUrl: string) => Transport>> = {
  gRPC: (baseUrl) => createGrpcTransport({ baseUrl }),
  "gRPC-Web": (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
  "Connect over HTTP/1.1": (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" }),
  "Connect over HTTP/2": (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2" }),
};

/** A server whose `echo`, `collect` and `expand` go on when told to, and otherwise hold what they have. */
async function heldServer(t: TestContext, config: Record<string, unknown>, rest: TestServerOptions = {}) {
  const gate = Promise.withResolvers<void>();
  const began: string[] = [];
  const server = await startServer(t, {
    config,
    routes: (router) =>
      router.service(EchoService, {
        ...echo,
        async echo({ value }: { value: string }) {
          began.push(value);
          if (value.startsWith("held")) await gate.promise;
          if (value === "failing") throw new Error("bug");
          return { value };
        },
        async collect(requests: AsyncIterable<{ value: string }>) {
          for await (const { value } of requests) began.push(value);
          await gate.promise;
          return { value: "" };
        },
        async *expand({ value }: { value: string }) {
          began.push(value);
          yield { value };
          if (value.startsWith("held")) await gate.promise;
        },
      }),
    ...rest,
  });
  t.after(() => gate.resolve());
  const client = createClient(EchoService, createGrpcTransport({ baseUrl: server.url }));
  return { server, client, began, release: () => gate.resolve() };
}

async function drained(items: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _ of items) count++;
  return count;
}

async function* texts(...values: string[]) {
  for (const value of values) yield { value };
}

/** Code, reason and pushback of a refused call. */
async function refusal(call: Promise<unknown>) {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => ConnectError.from(reason),
  );
  assert.ok(error !== undefined, "the call was not refused");
  const pushback = error.metadata.get("grpc-retry-pushback-ms");
  return { code: error.code, reason: fromConnectError(error)?.reason, pushbackMs: Number(pushback ?? Number.NaN) };
}

async function assertShed(call: Promise<unknown>, pushbackMs = 100): Promise<void> {
  const shed = await refusal(call);
  assert.deepEqual([shed.code, shed.reason], [Code.Unavailable, "OVERLOADED"]);
  assert.ok(Number.isInteger(shed.pushbackMs));
  assert.ok(shed.pushbackMs >= 0.8 * pushbackMs && shed.pushbackMs <= 1.2 * pushbackMs, `${shed.pushbackMs} ms`);
}

for (const [name, transport] of Object.entries(transports)) {
  test(`a call beyond max_concurrent_calls is refused with OVERLOADED and a pushback: ${name}`, async (t) => {
    const { server, client, began, release } = await heldServer(t, { max_concurrent_calls: 2, shed_pushback: "1s" });
    const unary = client.echo({ value: "held" });
    const stream = drained(client.expand({ value: "held" }));
    await until("two calls", () => began.length === 2);

    const caller = createClient(EchoService, transport(server.url));
    await assertShed(caller.echo({ value: "one more" }), 1_000);
    await assertShed(drained(caller.expand({ value: "one more" })), 1_000);
    assert.deepEqual(began, ["held", "held"]);

    release();
    await unary;
    assert.equal(await stream, 1);
    await until("room", () =>
      caller.echo({ value: "later" }).then(
        ({ value }) => value === "later",
        () => false,
      ),
    );
  });
}

test("a call is refused before its request is held against its rules, and its own interceptors do not see it", async (t) => {
  const seen: string[] = [];
  const { client } = await heldServer(
    t,
    { max_concurrent_calls: 1 },
    {
      interceptors: [
        (next) => (request) => {
          seen.push(request.method.name);
          return next(request);
        },
      ],
    },
  );
  const held = client.echo({ value: "held" });
  held.catch(() => {});
  await until("the call", () => seen.length === 1);
  await assertShed(client.echo({ value: "one more" }));
  assert.deepEqual(seen, ["Echo"]);
});

test("health and reflection are neither counted nor refused", async (t) => {
  const { server, client, began } = await heldServer(t, { max_concurrent_calls: 1 });
  const transport = createGrpcTransport({ baseUrl: server.url });
  const watching = new AbortController();
  t.after(() => watching.abort());
  const watch = createClient(Health, transport).watch({}, { signal: watching.signal })[Symbol.asyncIterator]();
  assert.equal((await watch.next()).value?.status, ServingStatus.SERVING);

  client.echo({ value: "held" }).catch(() => {});
  await until("the call", () => began.length === 1);
  await assertShed(client.echo({ value: "one more" }));
  assert.equal((await createClient(Health, transport).check({})).status, ServingStatus.SERVING);
  const list = { messageRequest: { case: "listServices", value: "" } } as const;
  const reflection = createClient(ServerReflection, transport).serverReflectionInfo(
    (async function* () {
      yield list;
    })(),
  );
  assert.equal(await drained(reflection), 1);
});

test("calls that fail, are left, or stop in the middle of a stream make room again", async (t) => {
  const { server, client } = await heldServer(t, { max_concurrent_calls: 1 });
  const hasRoom = () =>
    client.echo({ value: "next" }).then(
      () => true,
      () => false,
    );
  for (let i = 0; i < 3; i++) {
    await assert.rejects(client.echo({ value: "failing" }), { code: Code.Internal });
    await until("room after a failure", hasRoom);
    // Read as far as its first item, then left.
    for await (const _ of client.expand({ value: "ab" })) break;
    await until("room after a stream that was left", hasRoom);
    const gone = new AbortController();
    const left = client.expand({ value: "ab" }, { signal: gone.signal });
    gone.abort();
    await assert.rejects(drained(left));
    await until("room after a stream that never began", hasRoom);
    const { status } = await fetch(`${server.url}/testing.v1.EchoService/Expand`, {
      method: "POST",
      headers: { "content-type": "application/connect+proto" },
      body: "not a message",
    });
    assert.equal(status, 200);
    await until("room after a stream that cannot be read", hasRoom);
  }
});

test("a call whose caller has left counts for as long as its handler works", async (t) => {
  const { client, began, release } = await heldServer(t, { max_concurrent_calls: 1 });
  const gone = new AbortController();
  const left = client.echo({ value: "held" }, { signal: gone.signal });
  await until("the call", () => began.length === 1);
  gone.abort();
  await assert.rejects(left, { code: Code.Canceled });
  await assertShed(client.echo({ value: "one more" }));
  release();
  await until("room", () =>
    client.echo({ value: "later" }).then(
      () => true,
      () => false,
    ),
  );
});

test("an answer that nobody waits for any more makes room: a stream of requests that was left", async (t) => {
  const { client, began, release } = await heldServer(t, { max_concurrent_calls: 1 });
  const gone = new AbortController();
  const left = client.collect(texts("held"), { signal: gone.signal });
  await until("the call", () => began.length === 1);
  gone.abort();
  await assert.rejects(left, { code: Code.Canceled });
  await assertShed(client.echo({ value: "one more" }));
  release();
  await until("room", () =>
    client.echo({ value: "later" }).then(
      () => true,
      () => false,
    ),
  );
});

test("while the event loop is late calls are refused, and no longer", async (t) => {
  let delayMs = 201;
  const { client } = await heldServer(t, { max_event_loop_delay: "200ms" }, { eventLoopDelayMs: () => delayMs });
  await assertShed(client.echo({ value: "late" }));
  await assertShed(drained(client.expand({ value: "late" })));
  delayMs = 200;
  assert.equal((await client.echo({ value: "in time" })).value, "in time");
});

test("a server measures by itself how late its event loop is", async (t) => {
  const { client } = await heldServer(t, { max_event_loop_delay: "20ms" });
  let isBusy = true;
  t.after(() => {
    isBusy = false;
  });
  function block(): void {
    const endMs = performance.now() + 200;
    while (performance.now() < endMs);
    if (isBusy) setImmediate(block);
  }
  assert.equal((await client.echo({ value: "ada" })).value, "ada");
  block();
  const refusedWith = () =>
    client.echo({ value: "ada" }).then(
      () => "an answer",
      (error: unknown) => fromConnectError(error)?.reason,
    );
  await until("a refusal", async () => (await refusedWith()) === "OVERLOADED");
  isBusy = false;
  await until("an answer", async () => (await refusedWith()) === "an answer");
});

test("without limits nothing is refused, however late the event loop is", async (t) => {
  const { client } = await heldServer(t, {}, { eventLoopDelayMs: () => 1e6 });
  assert.equal((await client.echo({ value: "ada" })).value, "ada");
});

test("the log has one warning with the count, and what it has not said when the server stops", async (t) => {
  const { server, client, began, release } = await heldServer(t, { max_concurrent_calls: 1 });
  client.echo({ value: "held" }).catch(() => {});
  await until("the call", () => began.length === 1);
  for (let i = 0; i < 4; i++) await assertShed(client.echo({ value: "one more" }));
  const warnings = () => server.log.lines.filter(({ level, shed }) => level === "warn" && shed !== undefined);
  assert.deepEqual(
    warnings().map(({ shed }) => shed),
    [{ max_concurrent_calls: 1 }],
  );
  release();
  await within(server.stop(), "the stop");
  assert.deepEqual(
    warnings().map(({ shed }) => shed),
    [{ max_concurrent_calls: 1 }, { max_concurrent_calls: 3 }],
  );
});

test("a limit of no call at all is a fault of the configuration", () => {
  const parsed = serverSection.safeParse({ name: "a", port: 0, max_concurrent_calls: 0 });
  assert.deepEqual(
    parsed.error?.issues.map(({ path }) => path.join(".")),
    ["max_concurrent_calls"],
  );
});
