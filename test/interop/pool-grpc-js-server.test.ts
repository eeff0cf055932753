// Every policy of our transport pool against stock @grpc/grpc-js servers.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import grpc from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { UserService } from "#gen/user/v1/user_pb.ts";
import { recordLog, until, within } from "#shared/testing";
import { createTransportPool, grpcClientsSection } from "#shared/transport-pool";
import { makeCertificates } from "../support/certificates.ts";
import { loadService, metadataOf } from "../support/grpc-js.ts";
import { refusalOf } from "../support/refusal.ts";
import { writeStatus } from "../support/rpc-status.ts";

const users = loadService("user/v1/user.proto", "user.v1.UserService");
const orders = loadService("order/v1/order.proto", "order.v1.OrderService");
const certificates = makeCertificates();

type Unary<Request = { name: string }> = grpc.handleUnaryCall<Request, object>;
type Watch = grpc.handleServerStreamingCall<{ id: string }, object>;

interface Handlers {
  readonly SayHello?: Unary;
  readonly CreateUser?: Unary;
  readonly GetUser?: Unary<{ id: string }>;
  readonly WatchOrder?: Watch;
}

interface ServerOptions {
  readonly options?: grpc.ServerOptions;
  readonly credentials?: grpc.ServerCredentials;
  readonly health?: HealthImplementation;
}

async function startServer(t: TestContext, handlers: Handlers, { options, credentials, health }: ServerOptions = {}) {
  const { WatchOrder, ...ofUsers } = handlers;
  const server = new grpc.Server(options);
  server.addService(users.service, ofUsers);
  if (WatchOrder !== undefined) server.addService(orders.service, { WatchOrder });
  health?.addToServer(server);
  t.after(() => server.forceShutdown());
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", credentials ?? grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return `127.0.0.1:${port}`;
}

interface PeerSection {
  readonly address: string | string[];
  readonly retry?: object;
  readonly [key: string]: unknown;
}

/** SayHello is not idempotent: it is retried by a policy of its own. */
function startPool(t: TestContext, service: PeerSection) {
  const { retry } = service;
  const methods = retry === undefined ? {} : { "user.v1.UserService/SayHello": { retry } };
  const config = grpcClientsSection.parse({ services: [{ name: "peer", methods, ...service }] });
  const { logger, lines } = recordLog("debug");
  const pool = createTransportPool(config, { logger, caller: "test", closeTimeoutMs: 0 });
  t.after(() => pool.close());
  return { users: pool.client("peer", UserService), orders: pool.client("peer", OrderService), pool, lines };
}

/** Fails as told, one call after the other, and then answers; notes what it was called with. */
function failing(...failures: Partial<grpc.ServiceError>[]) {
  const attempts: (string | undefined)[] = [];
  const handler: Unary = (call, respond) => {
    attempts.push(call.metadata.get("grpc-previous-rpc-attempts")[0]?.toString());
    const failure = failures[attempts.length - 1];
    if (failure === undefined) respond(null, { message: `Hello ${call.request.name}!` });
    else respond({ code: grpc.status.UNAVAILABLE, details: "busy", ...failure });
  };
  return { handler, attempts };
}

const pushback = (ms: string) => ({ metadata: metadataOf({ "grpc-retry-pushback-ms": ms }) });
const retry = { max: 3, backoff: "1ms" };

test("UNAVAILABLE is retried, and the server sees which attempt it is", async (t) => {
  const { handler, attempts } = failing({}, {}, {});
  const { users: client } = startPool(t, { address: await startServer(t, { SayHello: handler }), retry });
  assert.equal((await client.sayHello({ name: "Ada" })).message, "Hello Ada!");
  assert.deepEqual(attempts, [undefined, "1", "2", "3"]);
});

test("when all attempts fail, the last error arrives with its details and metadata", async (t) => {
  const info = create(ErrorInfoSchema, { reason: "OVERLOADED", domain: "go-service" });
  const status = writeStatus(grpc.status.UNAVAILABLE, "busy", [{ schema: ErrorInfoSchema, message: info }]);
  const last = metadataOf({ "grpc-status-details-bin": status, "x-why": "the last" });
  const { handler, attempts } = failing({}, { metadata: last });
  const address = await startServer(t, { SayHello: handler });
  const { users: client } = startPool(t, { address, retry: { ...retry, max: 1 } });
  const error = await client.sayHello({ name: "Ada" }).catch(ConnectError.from);
  assert.ok(error instanceof ConnectError);
  assert.equal(error.rawMessage, "busy");
  assert.equal(error.metadata.get("x-why"), "the last");
  assert.equal(error.findDetails(ErrorInfoSchema)[0]?.reason, "OVERLOADED");
  assert.equal(attempts.length, 2);
});

test("other codes are not retried, unless they are listed, and no method that must not be sent twice is", async (t) => {
  const aborted = failing({ code: grpc.status.ABORTED });
  const address = await startServer(t, { SayHello: aborted.handler });
  assert.equal((await refusalOf(startPool(t, { address, retry }).users.sayHello({ name: "Ada" }))).code, "Aborted");
  assert.deepEqual(aborted.attempts, [undefined]);
  const listed = failing({ code: grpc.status.ABORTED });
  const { users: client } = startPool(t, {
    address: await startServer(t, { SayHello: listed.handler }),
    retry: { ...retry, codes: ["ABORTED"] },
  });
  assert.equal((await client.sayHello({ name: "Ada" })).message, "Hello Ada!");
});

test("a pushback of the server is the delay of the next attempt, also when that is none", async (t) => {
  const { handler, attempts } = failing(pushback("0"), pushback("20"));
  // By the backoff it would take an hour.
  const { users: client } = startPool(t, {
    address: await startServer(t, { SayHello: handler }),
    retry: { max: 3, backoff: "1h", timeout: "2h" },
    timeout: "3h",
  });
  assert.equal((await within(client.sayHello({ name: "Ada" }))).message, "Hello Ada!");
  assert.deepEqual(attempts, [undefined, "1", "2"]);
});

test("a pushback that is negative, or no number, forbids to retry", async (t) => {
  for (const text of ["-1", "later"]) {
    const { handler, attempts } = failing({}, pushback(text));
    const { users: client, pool } = startPool(t, { address: await startServer(t, { SayHello: handler }), retry });
    assert.equal((await refusalOf(client.sayHello({ name: "Ada" }))).code, "Unavailable");
    assert.deepEqual(attempts, [undefined, "1"]);
    assert.equal(pool.states()[0]?.retryTokens, 498);
  }
});

test("a stream that fails before it has answered is retried, and not after", async (t) => {
  let calls = 0;
  const WatchOrder: Watch = (call) => {
    calls++;
    if (calls === 1) call.emit("error", { code: grpc.status.UNAVAILABLE, details: "busy" });
    else {
      call.write({ order: { id: `${calls}` } });
      if (calls === 2) call.end();
      else call.emit("error", { code: grpc.status.UNAVAILABLE, details: "gone" });
    }
  };
  const { orders: client } = startPool(t, { address: await startServer(t, { WatchOrder }), retry });
  const received: string[] = [];
  const watch = async () => {
    for await (const { order } of client.watchOrder({ id: "7" })) received.push(order?.id ?? "");
  };
  await watch();
  assert.deepEqual(received, ["2"]);
  assert.equal((await refusalOf(watch())).code, "Unavailable");
  assert.deepEqual(received, ["2", "3"]);
  assert.equal(calls, 3);
});

test("every attempt has the same deadline, and what is left of it", async (t) => {
  const deadlines: number[] = [];
  const SayHello: Unary = (call, respond) => {
    deadlines.push(Number(call.getDeadline()));
    respond({ code: grpc.status.UNAVAILABLE, ...pushback("400") });
  };
  const address = await startServer(t, { SayHello });
  const { users: client } = startPool(t, { address, retry: { ...retry, max: 2 } });
  assert.equal((await refusalOf(client.sayHello({ name: "Ada" }, { timeoutMs: 5_000 }))).code, "Unavailable");
  assert.equal(deadlines.length, 3);
  // With the whole timeout for each, they would be 400 ms apart.
  assert.ok(Math.max(...deadlines) - Math.min(...deadlines) < 300, deadlines.join());
});

test("no attempt is made that would begin after the deadline", async (t) => {
  const { handler, attempts } = failing(pushback("60000"));
  const { users: client } = startPool(t, { address: await startServer(t, { SayHello: handler }), retry });
  assert.equal((await within(refusalOf(client.sayHello({ name: "Ada" }, { timeoutMs: 5_000 })))).code, "Unavailable");
  assert.equal(attempts.length, 1);
});

test("a server sees that its caller has left, that the deadline is over, and that an attempt is given up", async (t) => {
  const seen: string[] = [];
  const called = Promise.withResolvers<void>();
  const SayHello: Unary = (call, respond) => {
    const { name } = call.request;
    if (name === "first" || call.metadata.get("grpc-previous-rpc-attempts").length > 0) {
      respond(null, { message: "second" });
      return;
    }
    call.on("cancelled", () => seen.push(name));
    called.resolve();
  };
  const address = await startServer(t, { SayHello });
  const { users: client } = startPool(t, { address });
  const leaving = new AbortController();
  const left = refusalOf(client.sayHello({ name: "left" }, { signal: leaving.signal }));
  await called.promise;
  leaving.abort();
  assert.equal((await left).code, "Canceled");
  await until("the server to see it", () => seen.includes("left"));

  // On a busy machine the time may be over before the call is sent.
  while (!seen.includes("late")) {
    assert.equal((await refusalOf(client.sayHello({ name: "late" }, { timeoutMs: 100 }))).code, "DeadlineExceeded");
  }

  const impatient = startPool(t, { address, retry: { ...retry, attempt_timeout: "400ms" } });
  await impatient.users.sayHello({ name: "first" });
  assert.equal((await impatient.users.sayHello({ name: "slow" })).message, "second");
  await until("the server to see it", () => seen.includes("slow"));
});

test("of hedged attempts the first answer is taken, and the server sees the end of the others", async (t) => {
  const ended = new Set<string>();
  const attempts: string[] = [];
  const GetUser: Unary<{ id: string }> = (call, respond) => {
    const attempt = String(call.metadata.get("grpc-previous-rpc-attempts")[0] ?? "0");
    attempts.push(attempt);
    if (attempt === "2") respond(null, { user: { id: "third" } });
    // Also emitted when a call has ended well.
    else call.on("cancelled", () => ended.add(attempt));
  };
  const address = await startServer(t, { GetUser });
  const { users: client, pool } = startPool(t, { address, hedge: { delay: "20ms", max: 2 } });
  assert.equal((await within(client.getUser({ id: "1" }))).user?.id, "third");
  assert.deepEqual(attempts, ["0", "1", "2"]);
  await until("the server to see it", () => ended.size === 2);
  await until("no open call", () => pool.states()[0]?.openCalls === 0);
});

test("a server that ends connections when they are old harms no call", async (t) => {
  const peers = new Set<string>();
  const SayHello: Unary = (call, respond) => {
    peers.add(call.getPeer());
    setTimeout(() => respond(null, { message: call.request.name }), Math.random() * 5);
  };
  const options = { "grpc.max_connection_age_ms": 100, "grpc.max_connection_age_grace_ms": 10_000 };
  const { users: client } = startPool(t, { address: await startServer(t, { SayHello }, { options }) });
  let calls = 0;
  async function callOn(): Promise<void> {
    while (peers.size < 8) {
      calls++;
      const name = `${calls}`;
      assert.equal((await client.sayHello({ name })).message, name);
    }
  }
  await within(Promise.all(Array.from({ length: 20 }, callOn)), "eight connections", 60_000);
  assert.ok(calls > 100, `${calls}`);
});

test("a stream goes on to its end on a connection that takes no more calls", async (t) => {
  const peers: string[] = [];
  let end = () => {};
  const WatchOrder: Watch = (call) => {
    peers.push(call.getPeer());
    call.write({ order: { id: "1" } });
    end = () => {
      call.write({ order: { id: "2" } });
      call.end();
    };
  };
  const SayHello: Unary = (call, respond) => {
    peers.push(call.getPeer());
    respond(null, {});
  };
  const options = { "grpc.max_connection_age_ms": 50, "grpc.max_connection_age_grace_ms": 60_000 };
  const address = await startServer(t, { WatchOrder, SayHello }, { options });
  const { orders: client, users: others } = startPool(t, { address });
  const stream = client.watchOrder({ id: "7" })[Symbol.asyncIterator]();
  assert.equal((await stream.next()).value?.order?.id, "1");
  await until("a further connection", async () => {
    await others.sayHello({ name: "Ada" });
    return peers.at(-1) !== peers[0];
  });
  end();
  assert.equal((await stream.next()).value?.order?.id, "2");
  assert.equal((await stream.next()).done, true);
});

const named =
  (name: string): Unary =>
  (_call, respond) =>
    respond(null, { message: name });

/** Who answers so many calls. */
async function answersOf(client: ReturnType<typeof startPool>["users"], count = 20): Promise<Set<string>> {
  const answers = new Set<string>();
  for (let i = 0; i < count; i++) answers.add((await client.sayHello({ name: "Ada" })).message);
  return answers;
}

test("health_check: a server that says NOT_SERVING gets no calls until it says SERVING", async (t) => {
  const health = new HealthImplementation({ "": "SERVING" });
  const one = await startServer(t, { SayHello: named("one") }, { health });
  const two = await startServer(t, { SayHello: named("two") }, { health: new HealthImplementation({ "": "SERVING" }) });
  const { users: client, pool } = startPool(t, {
    address: [one, two],
    health_check: {},
    balancer: { policy: "round_robin" },
  });
  const healthOf = (index: number) => pool.states()[0]?.endpoints[index]?.health;
  pool.connect();
  await until("both to serve", () => healthOf(0) === "serving" && healthOf(1) === "serving");
  assert.deepEqual(await answersOf(client), new Set(["one", "two"]));
  health.setStatus("", "NOT_SERVING");
  await until("its notice", () => healthOf(0) === "not_serving");
  assert.deepEqual(await answersOf(client), new Set(["two"]));
  health.setStatus("", "SERVING");
  await until("its notice", () => healthOf(0) === "serving");
  assert.deepEqual(await answersOf(client), new Set(["one", "two"]));
  assert.equal(pool.states()[0]?.openCalls, 0);
});

test("health_check: of the service that is named, which need not be known at first", async (t) => {
  const health = new HealthImplementation({ "": "SERVING" });
  const address = await startServer(t, { SayHello: named("one") }, { health });
  const { users: client, pool } = startPool(t, { address, health_check: { service: "user.v1.UserService" } });
  // SERVICE_UNKNOWN.
  assert.equal((await refusalOf(client.sayHello({ name: "Ada" }))).code, "Unavailable");
  assert.equal(pool.states()[0]?.endpoints[0]?.health, "not_serving");
  const waiting = startPool(t, {
    address,
    health_check: { service: "user.v1.UserService" },
    wait_for_ready: true,
  });
  const call = waiting.users.sayHello({ name: "Ada" });
  await until("the call to wait", () => waiting.pool.states()[0]?.endpoints[0]?.health === "not_serving");
  health.setStatus("user.v1.UserService", "SERVING");
  assert.equal((await within(call)).message, "one");
  await until("its notice", () => pool.states()[0]?.state === "ready");
  assert.deepEqual(await answersOf(client), new Set(["one"]));
});

test("health_check: a server without the health service counts as healthy, and the log says so", async (t) => {
  const address = await startServer(t, { SayHello: named("one") });
  const { users: client, pool, lines } = startPool(t, { address, health_check: {} });
  assert.deepEqual(await answersOf(client), new Set(["one"]));
  assert.equal(pool.states()[0]?.endpoints[0]?.health, "unwatched");
  assert.ok(lines.some(({ msg }) => String(msg).includes("unwatched")));
});

test("TLS", async (t) => {
  const pair = { private_key: certificates.pem("server.key"), cert_chain: certificates.pem("server.crt") };
  const credentials = grpc.ServerCredentials.createSsl(null, [pair]);
  const address = await startServer(t, { SayHello: named("secure") }, { credentials });
  const tls = { ca_file: certificates.file("ca.crt") };
  for (const one of [
    { address, tls },
    { address: `https://${address}`, tls },
  ]) {
    assert.deepEqual(await answersOf(startPool(t, one).users), new Set(["secure"]));
  }
  assert.equal((await refusalOf(startPool(t, { address }).users.sayHello({ name: "Ada" }))).code, "Unavailable");
});

test("mTLS", async (t) => {
  const pair = { private_key: certificates.pem("server.key"), cert_chain: certificates.pem("server.crt") };
  const credentials = grpc.ServerCredentials.createSsl(certificates.pem("ca.crt"), [pair], true);
  const names: unknown[] = [];
  const SayHello: Unary = (call, respond) => {
    names.push(call.getAuthContext().sslPeerCertificate?.subject.CN);
    respond(null, { message: "secure" });
  };
  const address = await startServer(t, { SayHello }, { credentials });
  const tls = { ca_file: certificates.file("ca.crt") };
  const own = { cert_file: certificates.file("client.crt"), key_file: certificates.file("client.key") };
  const { users: client } = startPool(t, { address, tls: { ...tls, ...own } });
  assert.equal((await client.sayHello({ name: "Ada" })).message, "secure");
  assert.deepEqual(names, ["client"]);
  const nameless = startPool(t, { address, tls });
  assert.equal((await refusalOf(nameless.users.sayHello({ name: "Ada" }))).code, "Unavailable");
  assert.equal(names.length, 1);
});
