import assert from "node:assert/strict";
import { once } from "node:events";
import { constants } from "node:http2";
import { type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, fromBinary, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeToString, errorFromJson } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { BadRequestSchema, ErrorInfoSchema } from "#gen/google/rpc/error_details_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import {
  type Answer,
  answerOf,
  callHttp1,
  collectGarbage,
  connectHttp2,
  connectTcp,
  type Dialect,
  dialects,
  EchoService,
  echo,
  envelope,
  errorOf,
  frame,
  frameTypes,
  headerBlock,
  http2Preface,
  readEnvelopes,
  startServer,
  type TestServer,
  type TestServerOptions,
  until,
  within,
} from "#shared/testing";

const MIB = 1024 * 1024;
const ECHO = "/testing.v1.EchoService/Echo";
const READ = "/testing.v1.EchoService/Read";
const EXPAND = "/testing.v1.EchoService/Expand";
const READ_MAX_BYTES = 10_000;
const message = text("ada");

/** Services whose messages have rules, beside the echo. */
const withRules: TestServerOptions = {
  routes(router) {
    router.service(EchoService, echo);
    router.service(BookService, { getBook: () => ({}) });
    router.service(OrderService, { watchOrder: async function* () {} });
  },
};

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
    for (const { mock } of printed)
      assert.deepEqual(
        mock.calls.map((c) => c.arguments),
        [],
      );
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
const framed = [grpc, grpcWeb, connectStream];
const every = [grpc, grpcWeb, connect, connectStream];

/** What a message gets that does not parse: gRPC's table of codes has INTERNAL for it, Connect's has not; its handlers do. */
function unreadable({ kind }: Dialect): string {
  return kind === "unary" && process.env["FAST_PATH"] !== "false" ? "invalid_argument" : "internal";
}

function methodFor({ kind }: Dialect): string {
  return kind === "streaming" ? EXPAND : ECHO;
}

survivesInEach(
  "a message that is no protobuf is INTERNAL in gRPC and INVALID_ARGUMENT in Connect",
  every,
  async (dialect, send) => {
    for (const bad of [Buffer.from([0x0a, 0x7f, 0x61]), Buffer.from([0xff, 0xff, 0xff]), Buffer.from([0x07])]) {
      const answer = await send(methodFor(dialect), { "content-type": dialect.contentType }, dialect.body(bad));
      assert.equal(errorOf(answer).code, unreadable(dialect));
    }
  },
);

survivesInEach("invalid UTF-8 in a string is no less refused", every, async (dialect, send) => {
  const bad = Buffer.from([0x0a, 0x02, 0xc3, 0x28]);
  const answer = await send(methodFor(dialect), { "content-type": dialect.contentType }, dialect.body(bad));
  assert.equal(errorOf(answer).code, unreadable(dialect));
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
  assert.equal(errorOf(answer).code, "internal");
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
    if (dialect === grpc) assert.equal(answer.headers["grpc-status"], "12");
  }
});

survivesInEach("a path that is none is refused in the protocol's own form", every, async (dialect, send) => {
  for (const path of ["/%", "/%zz", "/testing.v1.EchoService/%E0%A4%A"]) {
    const answer = await send(path, { "content-type": dialect.contentType }, dialect.body(message));
    const isUnary = dialect.kind === "unary";
    assert.equal(answer.status, isUnary ? 400 : 200, path);
    assert.equal(errorOf(answer).code, isUnary ? "invalid_argument" : "unimplemented");
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
  for (const query of ["?encoding=json&message=x", "?encoding=json"]) {
    const answer = await get(query);
    assert.equal(errorOf(answer).code, "invalid_argument", query);
  }
  // Connect's own words for binary that cannot be read.
  assert.equal(errorOf(await get("?encoding=proto&base64=1&message=!!")).code, "internal");
  assert.equal(errorOf(await get("?encoding=json&message=%22x%22&compression=snappy")).code, "unimplemented");
});

survivesInEach(
  "a rule that is broken is INVALID_ARGUMENT and names the field",
  every,
  async (dialect, send) => {
    const isStream = dialect.kind === "streaming";
    const path = isStream ? "/order.v1.OrderService/WatchOrder" : "/book.v1.BookService/GetBook";
    const answer = await send(path, { "content-type": dialect.contentType }, dialect.body(Buffer.alloc(0)));
    const error = connectErrorOf(answer);
    assert.equal(error.code, Code.InvalidArgument);
    const [info] = error.findDetails(ErrorInfoSchema);
    assert.equal(info?.reason, "VALIDATION_FAILED");
    assert.equal(info.domain, "test-service");
    const [badRequest] = error.findDetails(BadRequestSchema);
    const [violation] = badRequest?.fieldViolations ?? [];
    assert.equal(violation?.field, "id");
    assert.equal(violation.reason, "string.min_len");
  },
  withRules,
);

for (const dialect of every) {
  survives(`a caller that stops sending is DEADLINE_EXCEEDED, by ${dialect.name}`, async ({ open, call, server }) => {
    const isGrpc = dialect.timeoutHeader === "grpc-timeout";
    const headers = { "content-type": dialect.contentType, [dialect.timeoutHeader]: isGrpc ? "50m" : "50" };
    const stream = open(methodFor(dialect), headers);
    stream.write(dialect.body(message).subarray(0, 3));
    const answer = await answerOf(stream);
    assert.equal(errorOf(answer).code, "deadline_exceeded");
    await until("the line in the log", () => server.log.lines.some(({ msg }) => msg === "request" || msg === "call"));
    // Its own connection has not suffered.
    assert.equal((await call("/livez", { ":method": "GET" })).status, 200);
  });
}

survives("a caller over HTTP/1.1 that stops sending is DEADLINE_EXCEEDED", async ({ server }, t) => {
  const { socket, received, closed } = await connectTcp(t, server.port);
  const headers = ["host: x", "content-type: application/proto", "content-length: 100", "connect-timeout-ms: 50"];
  socket.write(`POST ${ECHO} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\nabc`);
  await within(closed, "the end of the connection");
  assert.match(received().toString(), /^HTTP\/1\.1 504 .*"deadline_exceeded"/s);
});

survives(
  "a caller that says no timeout and stops sending has max_timeout",
  async ({ open }) => {
    const stream = open(ECHO, { "content-type": grpc.contentType });
    stream.write(Buffer.of(0));
    assert.equal(errorOf(await answerOf(stream)).code, "deadline_exceeded");
  },
  { config: { max_timeout: "100ms" } },
);

survives("a body cut off by the end of its connection is nobody's fault", async ({ server }, t) => {
  for (const [contentType, path] of [
    ["application/proto", ECHO],
    ["application/connect+proto", EXPAND],
    ["application/grpc-web+proto", ECHO],
  ]) {
    const { socket, closed } = await connectTcp(t, server.port);
    socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: ${contentType}\r\ncontent-length: 9\r\n\r\nabc`);
    socket.end();
    await within(closed, "the end of the connection");
  }
});

survives("an HTTP/1.1 request that is none is HTTP 400, and its connection is closed", async ({ server }, t) => {
  const bad = ["nonsense\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /livez HTTP/1.1\r\n\r\n", "\0\0\0\0"];
  for (const bytes of bad) {
    const { socket, received, closed } = await connectTcp(t, server.port);
    socket.write(bytes);
    await within(closed, "the end of the connection");
    assert.match(received().toString(), /^HTTP\/1\.1 4\d\d/, JSON.stringify(bytes));
  }
});

survives("request smuggling is refused: a length twice, or a length and chunks", async ({ server }, t) => {
  for (const headers of ["content-length: 3\r\ncontent-length: 4", "content-length: 3\r\ntransfer-encoding: chunked"]) {
    const { socket, received, closed } = await connectTcp(t, server.port);
    socket.write(`POST ${ECHO} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n${headers}\r\n\r\n"a"`);
    await within(closed, "the end of the connection");
    assert.match(received().toString(), /^HTTP\/1\.1 400/);
  }
});

survives("request targets of odd forms are answered", async ({ server }, t) => {
  const json = 'content-type: application/json\r\ncontent-length: 3\r\nconnection: close\r\n\r\n"a"';
  for (const [request, status] of [
    [`POST ${ECHO} HTTP/1.0\r\n${json}`, 200],
    [`POST http://elsewhere${ECHO} HTTP/1.1\r\nhost: x\r\n${json}`, 200],
    [`POST ${ECHO} HTTP/1.1\r\nhost: [::bad\r\n${json}`, 200],
    [`POST ${ECHO} HTTP/1.1\r\nhost:\r\n${json}`, 200],
    [`POST ${ECHO}?x=%zz HTTP/1.1\r\nhost: x\r\n${json}`, 200],
    ["OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 404],
    ["GET /livez HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade, close\r\n\r\n", 200],
  ] as const) {
    const { socket, received, closed } = await connectTcp(t, server.port);
    socket.write(request);
    await within(closed, `the end of the connection after ${request.split("\r\n", 1)[0]}`);
    assert.match(received().toString(), new RegExp(`^HTTP/1\\.1 ${status} `), JSON.stringify(request));
  }
  const { socket, closed } = await connectTcp(t, server.port);
  socket.write("CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n");
  await within(closed, "the end of a CONNECT");
});

survives("HTTP/2 without an authority, or with one that makes no URL, is answered", async ({ server }, t) => {
  for (const authority of [undefined, "::1:80", "a b", "[", "%"]) {
    const { socket, received } = await connectTcp(t, server.port);
    const headers = headerBlock({
      ":method": "POST",
      ":scheme": "http",
      ":path": ECHO,
      ...(authority === undefined ? {} : { ":authority": authority }),
      "content-type": "application/grpc",
    });
    socket.write(http2Preface);
    socket.write(frame(frameTypes.settings, 0, 0));
    socket.write(frame(frameTypes.headers, 0x4, 1, headers));
    socket.write(frame(frameTypes.data, 0x1, 1, envelope(message)));
    // RFC 9113 lets the HTTP/2 layer refuse what is no authority at all.
    await until(`an answer to ${authority}`, () => {
      const isReset = framesIn(received()).some(({ type }) => type === frameTypes.rstStream);
      return isReset || received().includes(envelope(message));
    });
  }
});

survives(
  "a method's path in percent-encoding has the method's limits too",
  async ({ open }) => {
    const stream = open("/testing.v1.EchoService/%45cho", { "content-type": grpc.contentType });
    stream.write(Buffer.of(0));
    assert.equal(errorOf(await answerOf(stream)).code, "deadline_exceeded");
  },
  { config: { max_timeout: "100ms" } },
);

survives(
  "the limit on time holds whatever the other protocol's header says",
  async ({ open }) => {
    for (const headers of [
      { "content-type": connect.contentType, "grpc-timeout": "1S", "connect-timeout-ms": "9999999999" },
      { "content-type": "APPLICATION/GRPC", "connect-timeout-ms": "1", "grpc-timeout": "99999999H" },
    ]) {
      const startedAt = performance.now();
      const stream = open(ECHO, headers);
      stream.write(Buffer.of(0));
      assert.equal(errorOf(await answerOf(stream)).code, "deadline_exceeded");
      assert.ok(performance.now() - startedAt >= 95);
    }
  },
  { config: { max_timeout: "100ms" } },
);

survives("a timeout longer than timers can wait is no timeout that has passed", async ({ call }) => {
  for (const [dialect, timeout] of [
    [grpc, "99999999H"],
    [connectStream, "9999999999"],
  ] as const) {
    const headers = { "content-type": dialect.contentType, [dialect.timeoutHeader]: timeout };
    assert.equal(errorOf(await call(EXPAND, headers, dialect.body(message))).code, "ok");
  }
});

survives("calls reset in the middle are gone, and their handlers are told", async ({ server }, t) => {
  const { socket, received } = await connectRawHttp2(t, server.port);
  const codes = [constants.NGHTTP2_CANCEL, constants.NGHTTP2_NO_ERROR, constants.NGHTTP2_INTERNAL_ERROR];
  for (const [i, code] of codes.entries()) {
    const [early, middle, late] = [6 * i + 1, 6 * i + 3, 6 * i + 5];
    socket.write(requestHeaders(early, ECHO));
    socket.write(requestHeaders(middle, ECHO));
    socket.write(frame(frameTypes.data, 0, middle, Buffer.of(0, 0)));
    socket.write(requestHeaders(late, "/testing.v1.EchoService/Chat"));
    socket.write(frame(frameTypes.data, 0, late, envelope(message)));
    await until("the answer's beginning", () => streamsWithData(received()).has(late));
    for (const id of [early, middle, late]) {
      socket.write(frame(frameTypes.rstStream, 0, id, Buffer.of(0, 0, 0, code)));
    }
  }
  await until("a line for each call", () => server.log.matching({ msg: "call", code: "canceled" }).length === 9);
});

survives(
  "a stream of requests that is reset does not look complete to its handler",
  async ({ server }, t) => {
    // By hand: Node's own client ends a stream before it resets it.
    const { socket } = await connectRawHttp2(t, server.port);
    socket.write(requestHeaders(1, "/testing.v1.EchoService/Collect"));
    socket.write(frame(frameTypes.data, 0, 1, envelope(message)));
    await until("the first message", () => heard.length === 1);
    socket.write(frame(frameTypes.rstStream, 0, 1, Buffer.of(0, 0, 0, constants.NGHTTP2_CANCEL)));
    await until("the handler's end", () => heard.length === 2);
    assert.deepEqual(heard.splice(0), ["ada", "canceled"]);
    await server.log.line({ method: "testing.v1.EchoService/Collect", code: "canceled" });
  },
  { routes: (router) => router.service(EchoService, { ...echo, collect: listen }) },
);

survives(
  "a stream of requests whose connection breaks does not look complete to its handler",
  async ({ server }, t) => {
    const raw = await connectRawHttp2(t, server.port);
    raw.socket.write(requestHeaders(1, "/testing.v1.EchoService/Collect"));
    raw.socket.write(frame(frameTypes.data, 0, 1, envelope(message)));
    await until("the first message", () => heard.length === 1);
    raw.socket.destroy();
    await until("the handler's end", () => heard.length === 2);
    assert.deepEqual(heard.splice(0), ["ada", "canceled"]);

    const plain = await connectTcp(t, server.port);
    const headers = "host: x\r\ncontent-type: application/connect+proto\r\ntransfer-encoding: chunked\r\n";
    plain.socket.write(`POST /testing.v1.EchoService/Collect HTTP/1.1\r\n${headers}\r\na\r\n`);
    plain.socket.write(envelope(message));
    await until("the first message", () => heard.length === 1);
    plain.socket.destroy();
    await until("the handler's end", () => heard.length === 2);
    assert.deepEqual(heard.splice(0), ["ada", "canceled"]);
  },
  { routes: (router) => router.service(EchoService, { ...echo, collect: listen }) },
);

survives(
  "a handler that does not read does not stop the others of its connection",
  async ({ open, call }) => {
    const stream = open("/testing.v1.EchoService/Chat", { "content-type": grpc.contentType });
    stream.write(Buffer.alloc(100_000));
    assert.equal(await fetchText(open), "ada");
    const { trailers } = await call(ECHO, { "content-type": grpc.contentType }, envelope(text("x".repeat(9_000))));
    assert.equal(trailers["grpc-status"], "0");
    stream.close(constants.NGHTTP2_CANCEL);
  },
  {
    routes: (router) =>
      router.service(EchoService, {
        ...echo,
        async *chat(requests, { signal }) {
          // The neighbour's is answered, the second is not read.
          if (chats++ % 2 === 0) yield* echo.chat(requests);
          else await once(signal, "abort");
        },
      }),
  },
);

survives("many streams that announce 4 GiB cost no memory", async ({ open }) => {
  const before = memory();
  const prefix = Buffer.from([0, 0xff, 0xff, 0xff, 0xff]);
  const streams = Array.from({ length: 200 }, () => open(ECHO, { "content-type": grpc.contentType }));
  const answers = streams.map(answerOf);
  for (const stream of streams) stream.write(prefix);
  for (const answer of await Promise.all(answers)) assert.equal(errorOf(answer).code, "resource_exhausted");
  const after = memory();
  assert.ok(after.buffers - before.buffers < 16 * MIB, `array buffers grew by ${after.buffers - before.buffers}`);
  assert.ok(after.rss - before.rss < 128 * MIB, `rss grew by ${after.rss - before.rss}`);
});

survives(
  "many streams that announce what is allowed, and send nothing, cost little memory",
  async ({ open }) => {
    const before = memory();
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(4 * MIB, 1);
    const streams = Array.from({ length: 200 }, () => open(ECHO, { "content-type": grpc.contentType }));
    for (const stream of streams) stream.write(prefix);
    const probe = await fetchText(open);
    assert.equal(probe, "ada");
    const grown = memory().rss - before.rss;
    assert.ok(grown < 256 * MIB, `rss grew by ${grown}`);
    for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL);
  },
  { config: { read_max_bytes: 4 * MIB } },
);

survives("a caller that goes on sending after its answer loses its stream, not its connection", async ({ open }) => {
  const stream = open(ECHO, { "content-type": grpc.contentType });
  const answer = answerOf(stream);
  const chunk = Buffer.alloc(16_384);
  let isOpen = true;
  stream.once("close", () => {
    isOpen = false;
  });
  stream.write(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]));
  // Bounded by flow control: nobody reads these.
  while (isOpen && !stream.destroyed) {
    if (!stream.write(chunk)) await Promise.race([once(stream, "drain"), once(stream, "close")]).catch(() => {});
  }
  assert.equal(errorOf(await answer).code, "resource_exhausted");
});

/** With the limit that the gateway ships: at the default, so many resets are no flood. */
const publicServer: TestServerOptions = { config: { max_resets_per_second: 200 } };

for (const [what, bytes] of [
  ["PINGs", Buffer.concat(Array.from({ length: 50_000 }, () => frame(frameTypes.ping, 0, 0, Buffer.alloc(8))))],
  ["SETTINGS", Buffer.concat(Array.from({ length: 50_000 }, () => frame(frameTypes.settings, 0, 0)))],
  ["empty DATA frames of no stream", Buffer.concat(Array.from({ length: 50_000 }, () => frame(frameTypes.data, 0, 1)))],
  ["CONTINUATIONs without end", endlessHeaders()],
  ["rapid resets", rapidResets(10_000)],
] as const) {
  survives(
    `a flood of ${what} ends its connection or is taken, and no other suffers`,
    async ({ server, call }, t) => {
      const before = memory();
      const { socket, closed } = await connectTcp(t, server.port);
      socket.write(http2Preface);
      socket.write(frame(frameTypes.settings, 0, 0));
      socket.write(bytes);
      let isClosed = false;
      void closed.then(() => {
        isClosed = true;
      });
      // A flood that is taken has been taken when something after it is answered.
      socket.end(frame(frameTypes.ping, 0, 0, Buffer.from("the last")));
      assert.equal((await call("/livez", { ":method": "GET" })).status, 200);
      await until("the end of the flood", () => isClosed);
      assert.ok(memory().rss - before.rss < 256 * MIB);
    },
    publicServer,
  );
}

test("a flood of resets beyond max_resets_per_second closes its connection", async (t) => {
  const server = await startServer(t, { config: { max_resets_per_second: 10 } });
  const { socket, closed } = await connectRawHttp2(t, server.port);
  socket.write(rapidResets(1_000));
  await within(closed, "the end of the flood");
  assert.equal((await fetch(`${server.url}/livez`)).status, 200);
});

survives("4 000 calls of one client that run out of time are no flood", async ({ open, call }) => {
  // Far more than Node's own limits, 1 000 and then 33 a second.
  for (let batch = 0; batch < 40; batch++) {
    const streams = Array.from({ length: 100 }, () => open(ECHO, { "content-type": grpc.contentType }));
    const ends = streams.map(answerOf);
    for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL);
    await Promise.all(ends);
  }
  assert.equal((await call("/livez", { ":method": "GET" })).status, 200);
});

survives(
  "callers that do not read their large answers do not stop the others of their connection",
  async ({ open }) => {
    const unread = Array.from({ length: 20 }, () => open(ECHO, { "content-type": grpc.contentType }));
    for (const stream of unread) {
      stream.end(envelope(text("x".repeat(MIB))));
      await within(once(stream, "response"), "the beginning of an answer");
    }
    assert.equal(await fetchText(open), "ada");
    for (const stream of unread) stream.close(constants.NGHTTP2_CANCEL);
  },
  { config: { read_max_bytes: 4 * MIB } },
);

const heard: string[] = [];
let chats = 0;

async function listen(requests: AsyncIterable<{ value: string }>) {
  try {
    for await (const { value } of requests) heard.push(value);
    heard.push("complete");
  } catch (error) {
    heard.push(codeToString(ConnectError.from(error).code));
  }
  return { value: "" };
}

function memory() {
  collectGarbage();
  const { rss, arrayBuffers } = process.memoryUsage();
  return { rss, buffers: arrayBuffers };
}

async function fetchText(open: Wire["open"]): Promise<string> {
  const stream = open(ECHO, { "content-type": grpc.contentType });
  stream.end(envelope(message));
  const [{ data } = { data: Buffer.alloc(0) }] = readEnvelopes((await answerOf(stream)).body);
  return fromBinary(StringValueSchema, data).value;
}

function endlessHeaders(): Buffer {
  const first = frame(frameTypes.headers, 0, 1, headerBlock({ ":method": "GET" }));
  const more = frame(frameTypes.continuation, 0, 1, headerBlock({ "x-more": "x".repeat(1_000) }));
  return Buffer.concat([first, ...Array.from({ length: 5_000 }, () => more)]);
}

function rapidResets(count: number): Buffer {
  const frames = Array.from({ length: count }, (_, i) => [
    requestHeaders(2 * i + 1, ECHO),
    frame(frameTypes.rstStream, 0, 2 * i + 1, Buffer.of(0, 0, 0, constants.NGHTTP2_CANCEL)),
  ]);
  return Buffer.concat(frames.flat());
}

function requestHeaders(streamId: number, path: string): Buffer {
  const END_HEADERS = 0x4;
  const block = headerBlock({
    ":method": "POST",
    ":scheme": "http",
    ":authority": "x",
    ":path": path,
    "content-type": "application/grpc",
  });
  return frame(frameTypes.headers, END_HEADERS, streamId, block);
}

/** A connection on which the test writes the frames. */
async function connectRawHttp2(t: TestContext, port: number) {
  const client = await connectTcp(t, port);
  client.socket.write(http2Preface);
  client.socket.write(frame(frameTypes.settings, 0, 0));
  return client;
}

function streamsWithData(bytes: Buffer): Set<number> {
  const ids = framesIn(bytes).filter(({ type }) => type === frameTypes.data);
  return new Set(ids.map(({ streamId }) => streamId));
}

function framesIn(bytes: Buffer): { type: number; streamId: number }[] {
  const frames: { type: number; streamId: number }[] = [];
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    frames.push({ type: bytes.readUInt8(at + 3), streamId: bytes.readUInt32BE(at + 5) });
  }
  return frames;
}

/** The error with its details, by Connect's own reading. */
function connectErrorOf(answer: Answer): ConnectError {
  const details = { ...answer.headers, ...answer.trailers };
  const contentType = answer.headers["content-type"] ?? "";
  if (contentType.startsWith("application/grpc")) {
    const header = new Headers();
    for (const name of ["grpc-status", "grpc-message", "grpc-status-details-bin"]) {
      const value = details[name] ?? grpcWebTrailer(answer, name);
      if (value !== undefined) header.set(name, String(value));
    }
    const error = findTrailerError(header);
    assert.ok(error);
    return error;
  }
  const json = contentType.startsWith("application/connect+")
    ? (JSON.parse(readEnvelopes(answer.body).at(-1)?.data.toString() ?? "") as { error: JsonValue }).error
    : (JSON.parse(answer.body.toString()) as JsonValue);
  return errorFromJson(json, undefined, new ConnectError("no error"));
}

function grpcWebTrailer({ body }: Answer, name: string): string | undefined {
  const block = readEnvelopes(body).at(-1)?.data.toString() ?? "";
  return new RegExp(`^${name}: ?(.*)$`, "m").exec(block)?.[1]?.trim();
}
