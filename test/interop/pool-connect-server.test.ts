// Our transport pool against stock Connect servers (@connectrpc/connect-node), in all protocols.

import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as https from "node:https";
import type { AddressInfo, Server, Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { OrderService, OrderStatus } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { EchoService, recordLog, until, within } from "#shared/testing";
import { createTransportPool, grpcClientsSection } from "#shared/transport-pool";
import { makeCertificates } from "../support/certificates.ts";
import { refusalOf } from "../support/refusal.ts";

const certificates = makeCertificates();

interface Variant {
  readonly http: "1.1" | "2";
  readonly protocol: "grpc" | "connect" | "grpc-web";
  readonly secure: boolean;
}

const VARIANTS: Variant[] = [false, true].flatMap((secure) => [
  { http: "2", protocol: "grpc", secure } as const,
  { http: "2", protocol: "connect", secure } as const,
  { http: "2", protocol: "grpc-web", secure } as const,
  { http: "1.1", protocol: "connect", secure } as const,
]);

type Routes = (router: ConnectRouter) => unknown;

function makeServer({ http: version, secure }: Variant, routes: Routes): Server {
  const handle = connectNodeAdapter({ routes: (router) => void routes(router) });
  const pair = { cert: certificates.pem("server.crt"), key: certificates.pem("server.key") };
  if (version === "2") return secure ? http2.createSecureServer(pair, handle) : http2.createServer(handle);
  return secure ? https.createServer(pair, handle) : http.createServer(handle);
}

async function start(t: TestContext, variant: Variant, routes: Routes, service = {}) {
  const server = makeServer(variant, routes);
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = grpcClientsSection.parse({
    services: [
      {
        name: "peer",
        address: variant.secure ? `https://${address}` : address,
        protocol: variant.protocol,
        http: variant.http,
        ...(variant.secure ? { tls: { ca_file: certificates.file("ca.crt") } } : {}),
        ...service,
      },
    ],
  });
  const pool = createTransportPool(config, { logger: recordLog("silent").logger, caller: "test", closeTimeoutMs: 0 });
  t.after(() => pool.close());
  return {
    pool,
    users: pool.client("peer", UserService),
    orders: pool.client("peer", OrderService),
    echo: pool.client("peer", EchoService),
  };
}

const busy = (headers: Record<string, string> = {}) => new ConnectError("busy", Code.Unavailable, headers);
for (const variant of VARIANTS) {
  const how = `${variant.protocol} over HTTP/${variant.http}${variant.secure ? " and TLS" : ""}`;

  test(`${how}: calls and streams of every kind, with headers and trailers`, async (t) => {
    const { echo } = await start(t, variant, (router) => {
      router.service(EchoService, {
        echo({ value }, context) {
          context.responseHeader.set("x-early", context.requestHeader.get("x-sent") ?? "");
          context.responseTrailer.set("x-late", "bye");
          return { value };
        },
        async collect(requests) {
          let value = "";
          for await (const request of requests) value += request.value;
          return { value };
        },
        async *expand({ value }) {
          for (const one of value) yield { value: one };
        },
        async *chat(requests) {
          for await (const { value } of requests) yield { value: value.toUpperCase() };
        },
      });
    });
    let early: string | null = null;
    let late: string | null = null;
    const answer = await echo.echo(
      { value: "ada" },
      {
        headers: { "x-sent": "hello" },
        onHeader: (header) => {
          early = header.get("x-early");
        },
        onTrailer: (trailer) => {
          late = trailer.get("x-late");
        },
      },
    );
    assert.deepEqual([answer.value, early, late], ["ada", "hello", "bye"]);
    assert.deepEqual(await textsOf(echo.expand({ value: "abc" })), ["a", "b", "c"]);
    assert.equal((await echo.collect(texts("x", "y", "z"))).value, "xyz");
    // HTTP/1.1 has no two ways at once.
    if (variant.http === "2") assert.deepEqual(await textsOf(echo.chat(texts("x", "y"))), ["X", "Y"]);
  });

  test(`${how}: an error with its details and metadata, of a call and after the messages of a stream`, async (t) => {
    const failure = () => {
      const error = new ConnectError("taken", Code.AlreadyExists, { "x-hint": "another" });
      error.details.push({
        desc: ErrorInfoSchema,
        value: create(ErrorInfoSchema, { reason: "NAME_TAKEN", domain: "peer" }),
      });
      return error;
    };
    const { users, orders } = await start(t, variant, (router) => {
      router.service(UserService, {
        sayHello() {
          throw failure();
        },
      });
      router.service(OrderService, {
        async *watchOrder({ id }) {
          yield { order: { id, status: OrderStatus.PENDING } };
          throw failure();
        },
      });
    });
    const received: string[] = [];
    const watch = async () => {
      for await (const { order } of orders.watchOrder({ id: "7" })) received.push(order?.id ?? "");
    };
    for (const call of [() => users.sayHello({ name: "Ada" }), watch]) {
      const error = await call().then(() => undefined, ConnectError.from);
      assert.equal(error?.code, Code.AlreadyExists);
      assert.equal(error?.rawMessage, "taken");
      assert.equal(error?.metadata.get("x-hint"), "another");
      assert.equal(error?.findDetails(ErrorInfoSchema)[0]?.reason, "NAME_TAKEN");
    }
    assert.deepEqual(received, ["7"]);
  });

  test(`${how}: UNAVAILABLE is retried, with what is left of the deadline, as the server's pushback says`, async (t) => {
    const attempts: (string | null)[] = [];
    const timeouts: number[] = [];
    const { users, pool } = await start(
      t,
      variant,
      (router) => {
        router.service(UserService, {
          sayHello({ name }, { requestHeader, timeoutMs }) {
            attempts.push(requestHeader.get("grpc-previous-rpc-attempts"));
            timeouts.push(timeoutMs() ?? Number.NaN);
            if (name === "never") throw busy({ "grpc-retry-pushback-ms": "-1" });
            if (attempts.length === 1) throw busy({ "grpc-retry-pushback-ms": "30" });
            if (attempts.length === 2) throw busy({ "grpc-retry-pushback-ms": "0" });
            return { message: `Hello ${name}!` };
          },
        });
      },
      { methods: { "user.v1.UserService/SayHello": { retry: { max: 3, backoff: "1h", timeout: "2h" } } } },
    );
    const answer = await within(users.sayHello({ name: "Ada" }, { timeoutMs: 10_000 }));
    assert.equal(answer.message, "Hello Ada!");
    assert.deepEqual(attempts, [null, "1", "2"]);
    assert.ok(Number(timeouts[0]) - Number(timeouts[1]) >= 25, timeouts.join());
    assert.equal((await refusalOf(users.sayHello({ name: "never" }))).code, "Unavailable");
    assert.equal(attempts.length, 4);
    assert.equal(pool.states()[0]?.openCalls, 0);
  });

  test(`${how}: of hedged attempts the first answer is taken, and the others end at the server`, async (t) => {
    const signals: AbortSignal[] = [];
    const attempts: (string | null)[] = [];
    const { users, pool } = await start(
      t,
      variant,
      (router) => {
        router.service(UserService, {
          async getUser(_, { signal, requestHeader }) {
            attempts.push(requestHeader.get("grpc-previous-rpc-attempts"));
            if (attempts.length === 3) return { user: { id: "third" } };
            signals.push(signal);
            return new Promise(() => {});
          },
        });
      },
      { hedge: { delay: "20ms", max: 2 } },
    );
    assert.equal((await within(users.getUser({ id: "1" }))).user?.id, "third");
    // Over HTTP/1.1 each has a connection of its own, and may overtake another.
    assert.deepEqual(new Set(attempts), new Set([null, "1", "2"]));
    await until("the server to see it", () => signals.every(({ aborted }) => aborted));
    await until("no open call", () => pool.states()[0]?.openCalls === 0);
  });

  test(`${how}: a hedge is sent at once after a failure that is not fatal, and others end the call`, async (t) => {
    let calls = 0;
    const { users } = await start(
      t,
      variant,
      (router) => {
        router.service(UserService, {
          getUser({ id }) {
            calls++;
            if (id === "fatal") throw new ConnectError("no", Code.InvalidArgument);
            if (calls === 1) throw busy();
            return { user: { id: "second" } };
          },
        });
      },
      { hedge: { delay: "1h", max: 1 }, timeout: "2h" },
    );
    assert.equal((await within(users.getUser({ id: "1" }))).user?.id, "second");
    assert.equal((await within(refusalOf(users.getUser({ id: "fatal" })))).code, "InvalidArgument");
    assert.equal(calls, 3);
  });

  test(`${how}: a server sees that its caller has left, that the deadline is over, and that an attempt is given up`, async (t) => {
    const signals = new Map<string, AbortSignal>();
    const { users, orders, pool } = await start(
      t,
      variant,
      (router) => {
        router.service(UserService, {
          sayHello({ name }, { signal, requestHeader }) {
            if (name === "first") return {};
            if (requestHeader.has("grpc-previous-rpc-attempts")) return { message: "second" };
            signals.set(name, signal);
            return new Promise(() => {});
          },
        });
        router.service(OrderService, {
          async *watchOrder({ id }, { signal }) {
            signals.set(id, signal);
            yield { order: { id } };
            await new Promise(() => {});
          },
        });
      },
      { methods: { "user.v1.UserService/SayHello": { retry: { max: 1, backoff: "1ms", attempt_timeout: "400ms" } } } },
    );
    const ended = (name: string) => until(`the end of ${name}`, () => signals.get(name)?.aborted === true);
    await users.sayHello({ name: "first" });
    // On a busy machine the time may be over before the call is sent.
    while (!signals.has("late")) {
      assert.equal((await refusalOf(users.sayHello({ name: "late" }, { timeoutMs: 100 }))).code, "DeadlineExceeded");
    }
    await ended("late");
    assert.equal((await users.sayHello({ name: "slow" })).message, "second");
    await ended("slow");
    const leaving = new AbortController();
    const stream = orders.watchOrder({ id: "left" }, { signal: leaving.signal })[Symbol.asyncIterator]();
    await stream.next();
    leaving.abort();
    assert.equal((await refusalOf(stream.next())).code, "Canceled");
    await ended("left");
    assert.equal(pool.states()[0]?.openCalls, 0);
  });

  test(`${how}: a stream has its answer when the headers are there, and is not sent again`, async (t) => {
    let calls = 0;
    const { echo } = await start(
      t,
      variant,
      (router) => {
        router.service(EchoService, {
          collect() {
            calls++;
            throw busy();
          },
        });
      },
      { methods: { "testing.v1.EchoService/Collect": { retry: { max: 3, backoff: "1ms" } } } },
    );
    assert.equal((await within(refusalOf(echo.collect(texts("x"))))).code, "Unavailable");
    assert.equal(calls, 1);
  });
}

async function* texts(...values: string[]) {
  for (const value of values) yield { value };
}

async function textsOf(messages: AsyncIterable<{ readonly value: string }>): Promise<string[]> {
  const values: string[] = [];
  for await (const { value } of messages) values.push(value);
  return values;
}
