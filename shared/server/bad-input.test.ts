import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import {
  type Answer,
  answerOf,
  callHttp1,
  connectHttp2,
  connectTcp,
  type Dialect,
  dialects,
  EchoService,
  envelope,
  errorOf,
  startServer,
  type TestServer,
  type TestServerOptions,
  until,
  within,
} from "#shared/testing";

const ECHO = "/testing.v1.EchoService/Echo";
const READ = "/testing.v1.EchoService/Read";
const EXPAND = "/testing.v1.EchoService/Expand";
const READ_MAX_BYTES = 10_000;
const message = text("ada");

function text(value: string): Uint8Array {
  return toBinary(StringValueSchema, create(StringValueSchema, { value }));
}

interface Wire {
  readonly server: TestServer;
  /** On one HTTP/2 connection. */
  readonly call: (path: string, headers: Record<string, string>, body?: Uint8Array | string) => Promise<Answer>;
  readonly open: Awaited<ReturnType<typeof connectHttp2>>["open"];
}

/**
 * A test of something bad on an HTTP/2 connection that has another call on it. Afterwards that call and new ones go on,
 * nothing was written to the console, and the log blames nobody here. (node:test fails for unhandled rejections.)
 */
function survives(name: string, run: (wire: Wire, t: TestContext) => Promise<void>, options: TestServerOptions = {}) {
  test(name, async (t) => {
    const printed = (["error", "warn", "log"] as const).map((method) => t.mock.method(console, method));
    const server = await startServer(t, {
      ...options,
      config: { read_max_bytes: READ_MAX_BYTES, ...options.config },
    });
    const { call, open } = await connectHttp2(t, server.url);
    const neighbour = open("/testing.v1.EchoService/Chat", { "content-type": "application/grpc" });
    let echoed = 0;
    neighbour.on("data", () => echoed++);
    neighbour.write(envelope(message));
    await until("the neighbour's first echo", () => echoed === 1);

    await run({ server, call, open }, t);

    neighbour.write(envelope(message));
    await until("the neighbour's next echo", () => echoed === 2);
    neighbour.end();
    const { trailers } = await answerOf(neighbour);
    assert.equal(trailers["grpc-status"], "0");
    const after = await call(ECHO, { "content-type": "application/grpc" }, envelope(message));
    assert.equal(errorOf(after).code, "ok");
    assert.equal((await fetch(`${server.url}/livez`)).status, 200);
    assert.deepEqual(server.log.matching({ level: "error" }), []);
    for (const { mock } of printed) assert.equal(mock.callCount(), 0);
  });
}

/** Runs what is bad in each protocol, over each version of HTTP that it has. */
function survivesInEach(
  what: string,
  which: readonly Dialect[],
  run: (
    dialect: Dialect,
    send: (path: string, headers: Record<string, string>, body?: Uint8Array | string) => Promise<Answer>,
  ) => Promise<void>,
  options: TestServerOptions = {},
) {
  for (const dialect of which) {
    survives(`${what}, by ${dialect.name}`, ({ call }) => run(dialect, call), options);
    if (dialect.http2Only) continue;
    const overHttp1 = async ({ server }: Wire) =>
      run(dialect, (path, headers, body) => callHttp1(server.url, path, headers, body));
    survives(`${what}, by ${dialect.name} over HTTP/1.1`, overHttp1, options);
  }
}

const { grpc, grpcWeb, connect, connectJson, connectStream } = dialects;
const unary = [grpc, grpcWeb, connect];
const framed = [grpc, grpcWeb, connectStream];
const every = [grpc, grpcWeb, connect, connectStream];

function methodFor({ kind }: Dialect): string {
  return kind === "streaming" ? EXPAND : ECHO;
}

survivesInEach("a message that is no protobuf is INVALID_ARGUMENT", every, async (dialect, send) => {
  for (const bad of [Buffer.from([0x0a, 0x7f, 0x61]), Buffer.from([0xff, 0xff, 0xff]), Buffer.from([0x07])]) {
    const answer = await send(methodFor(dialect), { "content-type": dialect.contentType }, dialect.body(bad));
    assert.equal(errorOf(answer).code, "invalid_argument");
  }
});

survivesInEach("invalid UTF-8 in a string is INVALID_ARGUMENT", every, async (dialect, send) => {
  const bad = Buffer.from([0x0a, 0x02, 0xc3, 0x28]);
  const answer = await send(methodFor(dialect), { "content-type": dialect.contentType }, dialect.body(bad));
  assert.equal(errorOf(answer).code, "invalid_argument");
});

survivesInEach("invalid JSON is INVALID_ARGUMENT", [connectJson], async ({ contentType }, send) => {
  for (const bad of ["{", "", '{"value":"ada"}', "12", '"ada" "bob"', Buffer.from([0x22, 0xc3, 0x28, 0x22])]) {
    const answer = await send(ECHO, { "content-type": contentType }, bad);
    assert.equal(errorOf(answer).code, "invalid_argument", JSON.stringify(bad));
    assert.equal(answer.status, 400);
  }
});

survivesInEach("a frame that ends too early is INVALID_ARGUMENT", framed, async (dialect, send) => {
  for (const bad of [envelope(message).subarray(0, -1), envelope(message).subarray(0, 3)]) {
    const answer = await send(methodFor(dialect), { "content-type": dialect.contentType }, bad);
    assert.equal(errorOf(answer).code, "invalid_argument");
  }
});

survivesInEach("no message, or one too many, is UNIMPLEMENTED in a call of one", framed, async (dialect, send) => {
  for (const bad of [Buffer.alloc(0), Buffer.concat([envelope(message), envelope(message)])]) {
    const answer = await send(methodFor(dialect), { "content-type": dialect.contentType }, bad);
    assert.equal(errorOf(answer).code, "unimplemented");
  }
});

survivesInEach("a content type of no protocol is HTTP 415", [connect], async (_dialect, send) => {
  const types = ["text/plain", "application/xml", "application/grpc+xml", "application/protobuf", "x", "*", "a/b; c"];
  for (const contentType of types) {
    assert.equal((await send(ECHO, { "content-type": contentType }, message)).status, 415, contentType);
  }
  assert.equal((await send(ECHO, {}, message)).status, 415);
  assert.equal((await send(ECHO, { "content-type": connectStream.contentType }, envelope(message))).status, 415);
  assert.equal((await send(EXPAND, { "content-type": connect.contentType }, message)).status, 415);
});

survivesInEach("an HTTP method of no protocol is HTTP 405", [connect], async ({ contentType }, send) => {
  for (const method of ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"]) {
    assert.equal((await send(ECHO, { ":method": method, "content-type": contentType })).status, 405, method);
  }
});

survivesInEach("an announced 4 GiB are RESOURCE_EXHAUSTED before they come", framed, async (dialect, send) => {
  const prefix = Buffer.from([0, 0xff, 0xff, 0xff, 0xff]);
  const answer = await send(methodFor(dialect), { "content-type": dialect.contentType }, prefix);
  assert.equal(errorOf(answer).code, "resource_exhausted");
});

survivesInEach("a message over read_max_bytes is RESOURCE_EXHAUSTED", every, async (dialect, send) => {
  const big = text("a".repeat(READ_MAX_BYTES + 1));
  const answer = await send(methodFor(dialect), { "content-type": dialect.contentType }, dialect.body(big));
  assert.equal(errorOf(answer).code, "resource_exhausted");
  const fits = text("a".repeat(1_000));
  const next = await send(methodFor(dialect), { "content-type": dialect.contentType }, dialect.body(fits));
  assert.equal(errorOf(next).code, "ok");
});

survivesInEach("a message that inflates over read_max_bytes is RESOURCE_EXHAUSTED", every, async (dialect, send) => {
  const bomb = gzipSync(Buffer.alloc(50_000_000));
  const body = dialect.kind === "unary" ? bomb : envelope(bomb, 1);
  // As it comes it would be over the limit too.
  const small = gzipSync(text("a".repeat(READ_MAX_BYTES * 10)));
  for (const bad of [body, dialect.kind === "unary" ? small : envelope(small, 1)]) {
    const headers = { "content-type": dialect.contentType, [dialect.encodingHeader]: "gzip" };
    assert.equal(errorOf(await send(methodFor(dialect), headers, bad)).code, "resource_exhausted");
  }
});

survivesInEach("what does not inflate is INVALID_ARGUMENT", every, async (dialect, send) => {
  const body = dialect.kind === "unary" ? Buffer.from("no gzip") : envelope("no gzip", 1);
  const headers = { "content-type": dialect.contentType, [dialect.encodingHeader]: "gzip" };
  assert.equal(errorOf(await send(methodFor(dialect), headers, body)).code, "invalid_argument");
});

survivesInEach("an encoding that nobody knows is UNIMPLEMENTED", every, async (dialect, send) => {
  const headers = { "content-type": dialect.contentType, [dialect.encodingHeader]: "snappy" };
  const answer = await send(methodFor(dialect), headers, dialect.body(message));
  assert.equal(errorOf(answer).code, "unimplemented");
});

survivesInEach("a compressed flag without an encoding is INTERNAL", framed, async (dialect, send) => {
  const headers = { "content-type": dialect.contentType };
  const answer = await send(methodFor(dialect), headers, envelope(gzipSync(message), 1));
  assert.ok(["internal", "invalid_argument"].includes(errorOf(answer).code), errorOf(answer).code);
});

survivesInEach("a malformed timeout is INVALID_ARGUMENT", every, async (dialect, send) => {
  const isGrpc = dialect.timeoutHeader === "grpc-timeout";
  const bad = isGrpc
    ? ["abc", "123456789S", "-1S", "1", "S", "1s", "1 S", "", "1S,1S"]
    : ["abc", "12345678901", "-1", "1.5", "", "1e3"];
  for (const value of bad) {
    const headers = { "content-type": dialect.contentType, [dialect.timeoutHeader]: value };
    const answer = await send(methodFor(dialect), headers, dialect.body(message));
    assert.equal(errorOf(answer).code, "invalid_argument", JSON.stringify(value));
  }
});

survivesInEach("a method or service that does not exist is UNIMPLEMENTED", every, async (dialect, send) => {
  for (const path of ["/testing.v1.EchoService/Nothing", "/no.Service/Echo", "/testing.v1.EchoService", "/", "//x"]) {
    const answer = await send(path, { "content-type": dialect.contentType }, dialect.body(message));
    assert.equal(errorOf(answer).code, "unimplemented", path);
    assert.equal(answer.status, dialect.kind === "unary" ? 404 : 200);
    if (dialect === grpc) assert.equal(answer.trailers["grpc-status"], "12");
  }
});

survivesInEach("a path that is none is HTTP 400", [grpc, connect], async (dialect, send) => {
  for (const path of ["/%", "/%zz", "/testing.v1.EchoService/%E0%A4%A"]) {
    const { status } = await send(path, { "content-type": dialect.contentType }, dialect.body(message));
    assert.equal(status, 400, path);
  }
});

survivesInEach("headers over max_header_bytes are refused", [connect], async (dialect, send) => {
  const headers = { "content-type": dialect.contentType, "x-huge": "x".repeat(40_000) };
  const answer = await send(ECHO, headers, dialect.body(message));
  assert.ok(answer.status === 431 || answer.rstCode !== 0, `HTTP ${answer.status}, reset ${answer.rstCode}`);
});

survivesInEach("a bad Connect GET is INVALID_ARGUMENT or HTTP 415", [connect], async (_dialect, send) => {
  const get = (query: string) => send(`${READ}${query}`, { ":method": "GET" });
  for (const query of ["", "?encoding=xml&message=x", "?message=%22x%22"]) {
    assert.equal((await get(query)).status, 415, query);
  }
  for (const query of ["?encoding=proto&base64=1&message=!!", "?encoding=json&message=x", "?encoding=json"]) {
    const answer = await get(query);
    assert.equal(errorOf(answer).code, "invalid_argument", query);
  }
  assert.equal(errorOf(await get("?encoding=json&message=%22x%22&compression=snappy")).code, "unimplemented");
});

survivesInEach("a caller that stops sending is DEADLINE_EXCEEDED", every, async (dialect, send) => {
  // Sent by hand below: `send` always ends what it sends.
  assert.equal(
    errorOf(await send(methodFor(dialect), { "content-type": dialect.contentType }, dialect.body(message))).code,
    "ok",
  );
});
