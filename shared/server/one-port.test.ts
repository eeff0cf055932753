import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import https from "node:https";
import os from "node:os";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import tls from "node:tls";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { serverSection } from "#shared/server";
import {
  connectHttp2,
  connectTcp,
  EchoService,
  envelope,
  frame,
  frameTypes,
  headerBlock,
  http2Preface,
  startServer,
  until,
  within,
} from "#shared/testing";

const message = toBinary(StringValueSchema, create(StringValueSchema, { value: "ada" }));

test("one port answers gRPC, gRPC-Web and Connect, in proto and JSON, over HTTP/1.1 and HTTP/2", async (t) => {
  const { url: baseUrl } = await startServer(t);
  for (const useBinaryFormat of [true, false]) {
    const transports = [
      createGrpcTransport({ baseUrl, useBinaryFormat }),
      createGrpcWebTransport({ baseUrl, useBinaryFormat, httpVersion: "2" }),
      createGrpcWebTransport({ baseUrl, useBinaryFormat, httpVersion: "1.1" }),
      createConnectTransport({ baseUrl, useBinaryFormat, httpVersion: "2" }),
      createConnectTransport({ baseUrl, useBinaryFormat, httpVersion: "1.1" }),
    ];
    for (const transport of transports) {
      const client = createClient(EchoService, transport);
      assert.equal((await client.echo({ value: "ada" })).value, "ada");
      assert.deepEqual(await textsOf(client.expand({ value: "abc" })), ["a", "b", "c"]);
      assert.equal((await client.collect(texts("x", "y"))).value, "xy");
    }
  }
});

test("bidirectional streams pass each message on as it comes", async (t) => {
  const { url: baseUrl } = await startServer(t);
  for (const transport of [createGrpcTransport({ baseUrl }), createConnectTransport({ baseUrl, httpVersion: "2" })]) {
    const client = createClient(EchoService, transport);
    const asked: string[] = [];
    async function* requests() {
      for (const value of ["one", "two", "three"]) {
        asked.push(value);
        yield { value };
      }
    }
    const answered: string[] = [];
    for await (const { value } of client.chat(requests())) {
      assert.ok(asked.includes(value));
      answered.push(value);
    }
    assert.deepEqual(answered, ["one", "two", "three"]);
  }
});

test("a read can be a GET that caches understand", async (t) => {
  const { url: baseUrl } = await startServer(t);
  const client = createClient(EchoService, createConnectTransport({ baseUrl, httpVersion: "1.1", useHttpGet: true }));
  assert.equal((await client.read({ value: "ada" })).value, "ada");

  const get = await fetch(`${baseUrl}/testing.v1.EchoService/Read?encoding=json&message=%22ada%22`);
  assert.equal(await get.json(), "ada");
  const write = await fetch(`${baseUrl}/testing.v1.EchoService/Echo?encoding=json&message=%22ada%22`);
  assert.equal(write.status, 405);
});

test("plain routes share the port, over HTTP/1.1 and HTTP/2", async (t) => {
  const server = await startServer(t, {
    fastify: (fastify) => void fastify.get("/hello", async () => ({ hello: "world" })),
  });
  assert.deepEqual(await (await fetch(`${server.url}/hello`)).json(), { hello: "world" });
  assert.deepEqual(await (await fetch(`${server.url}/livez`)).json(), { status: "alive" });

  const { call } = await connectHttp2(t, server.url);
  const { status, body } = await call("/hello", { ":method": "GET" });
  assert.equal(status, 200);
  assert.deepEqual(JSON.parse(body.toString()), { hello: "world" });
});

test("one HTTP/1.1 connection carries many requests, pipelined ones in their order", async (t) => {
  const { port } = await startServer(t);
  const { socket, received } = await connectTcp(t, port);
  const request = (value: string) =>
    [
      "POST /testing.v1.EchoService/Echo HTTP/1.1",
      "host: x",
      "content-type: application/json",
      `content-length: ${value.length + 2}`,
      "",
      JSON.stringify(value),
    ].join("\r\n");
  socket.write(request("first") + request("second"));
  await until("both answers", () => received().includes('"second"'));
  assert.ok(received().indexOf('"first"') < received().indexOf('"second"'));
  socket.write(request("third"));
  await until("a later answer", () => received().includes('"third"'));
});

test("an HTTP/2 preface may come byte by byte", async (t) => {
  const { port } = await startServer(t);
  const { socket, received } = await connectTcp(t, port);
  const headers = headerBlock({
    ":method": "POST",
    ":scheme": "http",
    ":authority": "x",
    ":path": "/testing.v1.EchoService/Echo",
    "content-type": "application/grpc",
  });
  const bytes = Buffer.concat([
    http2Preface,
    frame(frameTypes.settings, 0, 0),
    frame(frameTypes.headers, 0x4, 1, headers),
    frame(frameTypes.data, 0x1, 1, envelope(message)),
  ]);
  for (const byte of bytes) await new Promise((resolve) => socket.write(Buffer.of(byte), resolve));
  await until("the echo", () => received().includes(envelope(message)));
});

test("an HTTP/1.1 request that begins like the HTTP/2 preface is one all the same", async (t) => {
  const { port } = await startServer(t);
  const { socket, received } = await connectTcp(t, port);
  for (const byte of "P") socket.write(byte);
  await new Promise((resolve) => socket.write("R", resolve));
  await new Promise((resolve) => socket.write("OPFIND /x HTTP/1.1\r\nhost: x\r\n\r\n", resolve));
  await until("an answer", () => received().toString().startsWith("HTTP/1.1 4"));
});

for (const [what, bytes] of [
  ["says nothing", ""],
  ["stops in the HTTP/2 preface", "PRI * HT"],
  ["says the HTTP/2 preface and no SETTINGS", http2Preface],
  ["speaks of HTTP/1.1 with the preface's method", "PRI * HTTP/1.1\r\n\r\n"],
  ["stops in its HTTP/1.1 headers", "GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: "],
] as const) {
  test(`a connection that ${what} is closed after first_byte_timeout`, async (t) => {
    const { port } = await startServer(t, { config: { first_byte_timeout: "100ms" } });
    const { socket, closed } = await connectTcp(t, port);
    if (bytes.length > 0) socket.write(bytes);
    await within(closed, "the close", 3_000);
  });
}

test("a connection that ends in the middle of the preface is let go at once", async (t) => {
  const { port } = await startServer(t);
  const { socket, closed } = await connectTcp(t, port);
  socket.end("PRI *");
  await within(closed, "the close", 2_000);
});

test("first_byte_timeout does not touch a connection that is idle between calls", async (t) => {
  const server = await startServer(t, { config: { first_byte_timeout: "50ms" } });
  const { call, session } = await connectHttp2(t, server.url);
  const { socket, received } = await connectTcp(t, server.port);
  socket.write("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n");
  await until("an answer", () => received().includes("alive"));
  // As long as it takes for a connection that says nothing to be closed: twice.
  for (let i = 0; i < 2; i++) await within((await connectTcp(t, server.port)).closed);
  assert.equal((await call("/livez", { ":method": "GET" })).status, 200);
  assert.equal(session.destroyed, false);
  socket.write("GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
  await until("a second answer", () => received().includes("components"));
});

test("connections beyond max_connections are refused, and it is said once", async (t) => {
  const server = await startServer(t, { config: { max_connections: 2 } });
  const first = await connectTcp(t, server.port);
  const second = await connectHttp2(t, server.url);
  for (let i = 0; i < 3; i++) await within((await connectTcp(t, server.port)).closed, "a refusal");
  assert.equal(server.log.matching({ level: "warn", max_connections: 2 }).length, 1);
  assert.equal((await second.call("/livez", { ":method": "GET" })).status, 200);

  first.socket.destroy();
  await until(
    "room for one more",
    async () => (await fetch(`${server.url}/livez`).catch(() => undefined))?.ok === true,
  );
});

test("calls beyond max_concurrent_streams wait in the client", async (t) => {
  let running = 0;
  let most = 0;
  const gate = Promise.withResolvers<void>();
  const { url } = await startServer(t, {
    config: { max_concurrent_streams: 5 },
    routes: (router) =>
      router.service(EchoService, {
        async echo({ value }) {
          most = Math.max(most, ++running);
          await gate.promise;
          running--;
          return { value };
        },
      }),
  });
  const { session, call } = await connectHttp2(t, url);
  await until("the server's settings", () => session.remoteSettings.maxConcurrentStreams === 5);
  const calls = Array.from({ length: 20 }, () =>
    call("/testing.v1.EchoService/Echo", { "content-type": "application/grpc" }, envelope(message)),
  );
  await until("five at once", () => running === 5);
  gate.resolve();
  for (const { trailers } of await Promise.all(calls)) assert.equal(trailers["grpc-status"], "0");
  assert.equal(most, 5);
});

test("a peer that vanishes is noticed: connections have TCP keepalive", { skip: !isLinux() }, async (t) => {
  const { port } = await startServer(t);
  const { socket } = await connectTcp(t, port);
  const address = `${toHex(port)} 0100007F:${toHex(socket.localPort ?? 0)}`;
  const timer = () =>
    readFileSync("/proc/net/tcp", "utf8")
      .split("\n")
      .find((line) => line.includes(address))
      ?.trim()
      .split(/\s+/)[5]
      ?.slice(0, 2);
  // 02: the keepalive timer runs.
  await until("the keepalive timer", () => timer() === "02");
});

test("IPv6 is as good", { skip: !hasIpv6() }, async (t) => {
  const server = await startServer(t, { config: { host: "::1" } });
  assert.match(server.url, /^http:\/\/\[::1\]:\d+$/);
  const client = createClient(EchoService, createGrpcTransport({ baseUrl: server.url }));
  await client.echo({ value: "ada" });
  const { peer } = await server.log.line({ method: "testing.v1.EchoService/Echo" });
  assert.match(String(peer), /^\[::1\]:\d+$/);
});

test("a port that is taken fails the start with its own error", async (t) => {
  const { port } = await startServer(t);
  await assert.rejects(startServer(t, { config: { port } }), { code: "EADDRINUSE" });
});

test("an error of the fastify option fails the start, and nothing before it", async (t) => {
  const boom = new Error("boom");
  await assert.rejects(startServer(t, { fastify: () => Promise.reject(boom) }), boom);
});

test("a plain route that throws answers 500, says nothing of why, and logs it", async (t) => {
  const { url, log } = await startServer(t, {
    fastify: (fastify) =>
      void fastify.get("/broken", async () => {
        throw new Error("the password is hunter2");
      }),
  });
  const response = await fetch(`${url}/broken`);
  assert.equal(response.status, 500);
  assert.deepEqual(await response.json(), { code: "internal", message: "internal error" });
  const { err } = await log.line({ level: "error", method: "GET /broken" });
  assert.equal((err as Error).message, "the password is hunter2");
});

test("the log has a line for each request that is no call: fine ones at debug, the rest at info", async (t) => {
  const { url, log } = await startServer(t);
  await fetch(`${url}/livez?x=1`);
  const fine = await log.line({ method: "GET /livez" });
  assert.equal(fine.level, "debug");
  assert.equal(fine["status"], 200);
  assert.equal(typeof fine["ms"], "number");
  assert.match(String(fine["peer"]), /^127\.0\.0\.1:\d+$/);
  await fetch(`${url}/nothing`);
  const missing = await log.line({ method: "GET /nothing" });
  assert.equal(missing.level, "info");
  assert.equal(missing["status"], 404);
});

const certificate = { folder: "", certFile: "", keyFile: "" };
before(() => {
  const folder = join(os.tmpdir(), `meridian-tls-${process.pid}`);
  certificate.certFile = `${folder}.crt`;
  certificate.keyFile = `${folder}.key`;
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "1"];
  const key = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  execFileSync("openssl", [...key, ...subject, "-keyout", certificate.keyFile, "-out", certificate.certFile], {
    stdio: "ignore",
  });
});
after(() => {
  rmSync(certificate.certFile);
  rmSync(certificate.keyFile);
});

function startTlsServer(t: TestContext, config = {}) {
  const files = { cert_file: certificate.certFile, key_file: certificate.keyFile };
  return startServer(t, { config: { tls: files, ...config } });
}

test("with TLS, ALPN tells HTTP/2 from HTTP/1.1", async (t) => {
  const server = await startTlsServer(t);
  assert.ok(server.url.startsWith("https://"));
  const ca = readFileSync(certificate.certFile);

  const grpc = createClient(EchoService, createGrpcTransport({ baseUrl: server.url, nodeOptions: { ca } }));
  assert.equal((await grpc.echo({ value: "ada" })).value, "ada");
  assert.deepEqual(await textsOf(grpc.expand({ value: "ab" })), ["a", "b"]);

  const nodeOptions = { agent: new https.Agent({ ca }) };
  t.after(() => nodeOptions.agent.destroy());
  const transport = createConnectTransport({ baseUrl: server.url, httpVersion: "1.1", nodeOptions });
  assert.equal((await createClient(EchoService, transport).echo({ value: "ada" })).value, "ada");
});

test("with TLS, a handshake that fails or stalls is closed, and the server goes on", async (t) => {
  const server = await startTlsServer(t, { first_byte_timeout: "200ms" });
  const silent = await connectTcp(t, server.port);
  const plain = await connectTcp(t, server.port);
  plain.socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  await within(plain.closed, "the close of a plaintext connection", 3_000);
  await within(silent.closed, "the close of a silent connection", 3_000);

  const { call } = await connectHttp2(t, server.url, { ca: readFileSync(certificate.certFile) });
  assert.equal((await call("/livez", { ":method": "GET" })).status, 200);
});

test("with TLS, HTTP/2 that says nothing after the handshake is closed", async (t) => {
  const server = await startTlsServer(t, { first_byte_timeout: "200ms" });
  const socket = tls.connect({ port: server.port, ca: readFileSync(certificate.certFile), ALPNProtocols: ["h2"] });
  t.after(() => socket.destroy());
  socket.on("error", () => {});
  socket.resume();
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  socket.once("close", () => resolve());
  await within(closed, "the close", 3_000);
});

test("with TLS, a stop waits neither for idle connections nor for handshakes that stall", async (t) => {
  const server = await startTlsServer(t, { shutdown_timeout: "20s" });
  await connectTcp(t, server.port);
  const { session, call } = await connectHttp2(t, server.url, { ca: readFileSync(certificate.certFile) });
  await call("/livez", { ":method": "GET" });
  await within(server.stop(), "the stop", 1_500);
  await until("the session's end", () => session.closed);
});

async function textsOf(items: AsyncIterable<{ value: string }>): Promise<string[]> {
  const values: string[] = [];
  for await (const { value } of items) values.push(value);
  return values;
}

async function* texts(...values: string[]) {
  for (const value of values) yield { value };
}

function isLinux(): boolean {
  return os.platform() === "linux";
}

function hasIpv6(): boolean {
  return Object.values(os.networkInterfaces()).some((list) => list?.some(({ address }) => address === "::1"));
}

function toHex(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, "0");
}

test("a certificate that is not there is a fault of the configuration", () => {
  const parsed = serverSection.safeParse({ name: "a", port: 0, tls: { cert_file: "no.crt", key_file: "no.key" } });
  assert.deepEqual(
    parsed.error?.issues.map(({ path }) => path.join(".")),
    ["tls.cert_file", "tls.key_file"],
  );
});
