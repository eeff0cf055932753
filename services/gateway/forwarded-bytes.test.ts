import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { HelloRequestSchema, HelloResponseSchema, UserService } from "#gen/user/v1/user_pb.ts";
import {
  callHttp1,
  connectHttp2,
  dialects,
  envelope,
  errorOf,
  readEnvelopes,
  silent,
  startPeer,
} from "#shared/testing";
import { createGatewayApp } from "./app.ts";
import { gatewayConfigSection } from "./config.ts";

const PATH = "/user.v1.UserService/SayHello";

const ada = Buffer.from(toBinary(HelloRequestSchema, create(HelloRequestSchema, { name: "Ada" })));
const hello = Buffer.from(toBinary(HelloResponseSchema, create(HelloResponseSchema, { message: "Hello Ada!" })));
/** As no library would write them: a field that nobody knows comes first, and then field 1, twice. */
const oddAda = Buffer.concat([Buffer.from([0xf8, 0x3f, 1, 0x0a, 1, 0x61]), ada]);
const oddHello = Buffer.concat([Buffer.from([0xf8, 0x3f, 2, 0x0a, 1, 0x62]), hello]);
const cutOff = ada.subarray(0, -1);

interface Service {
  readonly address: string;
  /** The messages that have come. */
  readonly received: Buffer[];
  /** What the next calls get, one after the other; the last one is for all that follow. */
  answers: (Buffer | { readonly status: string })[];
}

/** A service that knows no messages, only bytes. */
async function startService(t: TestContext, protocol: "grpc" | "connect"): Promise<Service> {
  const server = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  const received: Buffer[] = [];
  const service: Service = { address: "", received, answers: [oddHello] };
  server.on("stream", async (stream) => {
    const body = Buffer.concat(await Array.fromAsync(stream as AsyncIterable<Buffer>));
    received.push(protocol === "grpc" ? body.subarray(5) : body);
    const answer = service.answers.length > 1 ? service.answers.shift() : service.answers[0];
    if (protocol === "connect") {
      stream.respond({ ":status": 200, "content-type": "application/proto" });
      stream.end(answer);
      return;
    }
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
    const status = Buffer.isBuffer(answer) ? "0" : (answer?.status ?? "2");
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": status }));
    stream.end(Buffer.isBuffer(answer) ? envelope(answer) : undefined);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return Object.assign(service, { address: `127.0.0.1:${(server.address() as AddressInfo).port}` });
}

interface Settings {
  readonly server?: object;
  readonly service?: object;
}

async function startGateway(t: TestContext, address: string, { server, service }: Settings = {}): Promise<string> {
  const config = gatewayConfigSection.parse({
    server: { name: "gateway", host: "127.0.0.1", port: 0, ...server },
    grpc_clients: { services: [{ name: "user-service", address, ...service }] },
  });
  const app = createGatewayApp(config, { logger: silent });
  t.after(() => app.stop());
  await app.start();
  return app.url;
}

async function gatewayBefore(t: TestContext, settings: Settings = {}, protocol: "grpc" | "connect" = "grpc") {
  const service = await startService(t, protocol);
  const url = await startGateway(t, service.address, { ...settings, service: { protocol, ...settings.service } });
  return { service, url };
}

const { grpc, grpcWeb, connect } = dialects;

for (const protocol of ["grpc", "connect"] as const) {
  test(`a message and its answer pass to a service that speaks ${protocol} and back byte for byte`, async (t) => {
    const { service, url } = await gatewayBefore(t, {}, protocol);
    const { call } = await connectHttp2(t, url);
    for (const { name, contentType, body } of [grpc, grpcWeb, connect]) {
      const answer = await call(PATH, { "content-type": contentType }, body(oddAda));
      assert.equal(errorOf(answer).code, "ok", name);
      assert.deepEqual(service.received.splice(0), [oddAda], name);
      const message = name === "Connect" ? answer.body : readEnvelopes(answer.body)[0]?.data;
      assert.deepEqual(message, oddHello, name);
    }
    for (const { name, contentType, body } of [grpcWeb, connect]) {
      const answer = await callHttp1(url, PATH, { "content-type": contentType }, body(oddAda));
      assert.deepEqual(service.received.splice(0), [oddAda], `${name} over HTTP/1.1`);
      assert.ok(answer.body.includes(oddHello), `${name} over HTTP/1.1`);
    }
  });
}

test("empty messages pass too", async (t) => {
  const { service, url } = await gatewayBefore(t);
  service.answers = [Buffer.alloc(0)];
  const { call } = await connectHttp2(t, url);
  for (const { name, contentType, body } of [grpc, connect]) {
    const answer = await call(PATH, { "content-type": contentType }, body(""));
    assert.equal(errorOf(answer).code, "ok", name);
    assert.deepEqual(service.received.splice(0), [Buffer.alloc(0)], name);
  }
});

test("a caller who writes JSON gets JSON, and the service protobuf", async (t) => {
  const { service, url } = await gatewayBefore(t);
  const answer = await callHttp1(url, PATH, { "content-type": "application/json" }, JSON.stringify({ name: "Ada" }));
  assert.deepEqual(service.received, [ada]);
  assert.deepEqual(JSON.parse(answer.body.toString()), { message: "Hello Ada!" });
});

test("a compressed message is decompressed, and forwarded as it is", async (t) => {
  const { service, url } = await gatewayBefore(t);
  const { call } = await connectHttp2(t, url);
  const headers = { "content-type": grpc.contentType, "grpc-encoding": "gzip" };
  const answer = await call(PATH, headers, envelope(gzipSync(oddAda), 1));
  assert.equal(errorOf(answer).code, "ok");
  assert.deepEqual(service.received, [oddAda]);
  assert.deepEqual(readEnvelopes(answer.body)[0]?.data, oddHello);
});

test("the message of a call that is repeated stays the same to the byte", async (t) => {
  const { service, url } = await gatewayBefore(t, {
    service: { methods: { "user.v1.UserService/SayHello": { retry: { max: 2, backoff: "1ms" } } } },
  });
  service.answers = [{ status: "14" }, { status: "14" }, oddHello];
  const { call } = await connectHttp2(t, url);
  const answer = await call(PATH, { "content-type": grpc.contentType }, grpc.body(oddAda));
  assert.deepEqual(service.received, [oddAda, oddAda, oddAda]);
  assert.deepEqual(readEnvelopes(answer.body)[0]?.data, oddHello);
});

test("a message that cannot be read is the caller's fault as it is before a service, which never sees it", async (t) => {
  const { service, url } = await gatewayBefore(t);
  const peer = await startPeer(t, (router) => router.rpc(UserService.method.sayHello, () => ({})));
  const [{ call }, direct] = [await connectHttp2(t, url), await connectHttp2(t, peer.url)];
  for (const { name, contentType, body } of [grpc, grpcWeb, connect]) {
    const headers = { "content-type": contentType };
    const error = errorOf(await call(PATH, headers, body(cutOff)));
    assert.deepEqual(error, errorOf(await direct.call(PATH, headers, body(cutOff))), name);
    assert.equal(error.code, name === "Connect" ? "invalid_argument" : "internal");
  }
  assert.deepEqual(service.received, []);
});

test("an answer that cannot be read is the service's fault", async (t) => {
  const { service, url } = await gatewayBefore(t);
  service.answers = [hello.subarray(0, -1)];
  const { call } = await connectHttp2(t, url);
  for (const { name, contentType, body } of [grpc, grpcWeb, connect]) {
    const { code, message } = errorOf(await call(PATH, { "content-type": contentType }, body(ada)));
    assert.deepEqual([code, message], ["internal", "user-service failed"], name);
  }
});

test("the limits on messages hold: of the caller, of the service, and of the answer", async (t) => {
  const most = oddHello.length;
  const cases = [
    { settings: { server: { read_max_bytes: most } }, sent: "x".repeat(most), answer: hello, arrives: false },
    {
      settings: { service: { read_max_bytes: most } },
      sent: "a",
      answer: Buffer.concat([oddHello, hello]),
      arrives: true,
    },
    { settings: { server: { write_max_bytes: 3 } }, sent: "a", answer: hello, arrives: true },
  ];
  for (const { settings, sent, answer, arrives } of cases) {
    const { service, url } = await gatewayBefore(t, settings);
    const { call } = await connectHttp2(t, url);
    const message = toBinary(HelloRequestSchema, create(HelloRequestSchema, { name: sent }));
    for (const { name, contentType, body } of [grpc, grpcWeb, connect]) {
      service.answers = [oddHello.subarray(0, 3)];
      assert.equal(errorOf(await call(PATH, { "content-type": contentType }, body(ada))).code, "ok", name);
      service.answers = [answer];
      service.received.length = 0;
      const { code } = errorOf(await call(PATH, { "content-type": contentType }, body(message)));
      assert.equal(code, "resource_exhausted", `${name}, ${JSON.stringify(settings)}`);
      assert.equal(service.received.length, arrives ? 1 : 0);
    }
  }
});
