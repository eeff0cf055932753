import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { constants } from "node:http2";
import { type TestContext, test } from "node:test";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  answerOf,
  callHttp1,
  connectHttp2,
  connectTcp,
  dialects,
  EchoService,
  echo,
  envelope,
  errorOf,
  startServer,
  until,
  within,
} from "#shared/testing";

const ECHO = "/testing.v1.EchoService/Echo";
const EXPAND = "/testing.v1.EchoService/Expand";
const message = Buffer.from([0x0a, 1, 0x61]);
const grpc = { "content-type": dialects.grpc.contentType };
/** What an HTTP/2 client says that reads nothing. */
const closedWindow = { settings: { initialWindowSize: 0 } };
const forEver = { max_timeout: "1h", max_stream_timeout: "1h" };
const short = { max_timeout: "100ms", max_stream_timeout: "100ms" };

test("a timeout of nothing is no reason for a warning", async (t) => {
  const warnings: Error[] = [];
  const listen = (warning: Error) => void warnings.push(warning);
  process.on("warning", listen);
  t.after(() => process.off("warning", listen));
  const server = await startServer(t);
  for (const { contentType, body, timeoutHeader } of [dialects.connect, dialects.grpcWeb]) {
    const headers = { "content-type": contentType, [timeoutHeader]: timeoutHeader === "grpc-timeout" ? "0m" : "0" };
    assert.equal(errorOf(await callHttp1(server.url, ECHO, headers, body(message))).code, "deadline_exceeded");
  }
  assert.deepEqual(warnings, []);
});

test("Node puts no limit of its own on how long a request may be sent", async (t) => {
  const create = t.mock.method(http, "createServer");
  await startServer(t);
  assert.deepEqual(
    create.mock.calls.map(({ result }) => result?.requestTimeout),
    [0],
  );
});

for (const size of [10, 4_000_000]) {
  test(`a caller of HTTP/2 that does not read an answer of ${size} bytes loses it at the deadline`, async (t) => {
    const { server } = await startLarge(t, short, size);
    const { call } = await connectHttp2(t, server.url, closedWindow);
    const { rstCode, body } = await call(ECHO, grpc, envelope(message));
    assert.equal(rstCode, constants.NGHTTP2_CANCEL);
    assert.equal(body.length, 0);
    await server.log.line({ method: ECHO.slice(1), code: "canceled" });
  });
}

test("a caller of HTTP/2 that does not read a stream is reset at the deadline, and the generator closed", async (t) => {
  const { server, closed } = await startLarge(t, short);
  const { call } = await connectHttp2(t, server.url, closedWindow);
  const { rstCode } = await call(EXPAND, grpc, envelope(message));
  assert.equal(rstCode, constants.NGHTTP2_CANCEL);
  await within(closed, "the generator's end");
  await server.log.line({ method: EXPAND.slice(1), code: streamEnd("deadline_exceeded") });
});

for (const [path, contentType, body] of [
  [ECHO, "application/proto", message],
  [EXPAND, "application/connect+proto", envelope(message)],
] as const) {
  test(`a caller of HTTP/1.1 that does not read the answer of ${path} is hung up on`, async (t) => {
    const { server } = await startLarge(t, short, 20_000_000);
    const { socket } = await connectTcp(t, server.port);
    socket.pause();
    socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: ${contentType}\r\n`);
    socket.write(`content-length: ${body.length}\r\n\r\n`);
    socket.write(body);
    await server.log.line({ method: path.slice(1), code: path === ECHO ? "canceled" : streamEnd("deadline_exceeded") });
    socket.resume();
    await within(once(socket, "close"), "the end of the connection");
  });
}

test("a caller that is slow, and no more than that, is told of its deadline", async (t) => {
  const { server, aborted } = await startLarge(t, short);
  const { open } = await connectHttp2(t, server.url);
  const stream = open(EXPAND, grpc);
  stream.pause();
  stream.end(envelope(message));
  await within(aborted, "the deadline");
  const answer = answerOf(stream);
  stream.resume();
  assert.equal(errorOf(await answer).code, "deadline_exceeded");
});

test("no timer outlives a call whose caller made it wait", async (t) => {
  const { server } = await startLarge(t, forEver, 1_000_000);
  const { call } = await connectHttp2(t, server.url);
  assert.equal(errorOf(await call(ECHO, grpc, envelope(message))).code, "ok");
  const timers = () => process.getActiveResourcesInfo().filter((what) => what === "Timeout").length;
  const before = timers();
  for (let i = 0; i < 5; i++) assert.equal(errorOf(await call(ECHO, grpc, envelope(message))).code, "ok");
  await until("every line", () => server.log.matching({ method: ECHO.slice(1), code: "ok" }).length === 6);
  await until("the end of the timers", () => timers() <= before);
});

test("a caller that does not read does not hold a stop", async (t) => {
  const { server, closed, begun } = await startLarge(t, { ...forEver, shutdown_timeout: "50ms" });
  const { open } = await connectHttp2(t, server.url, closedWindow);
  for (const path of [ECHO, EXPAND]) open(path, grpc).end(envelope(message));
  await until("both calls", () => begun() === 2);
  await within(server.stop(), "the stop", 5_000);
  await within(closed, "the generator's end");
  await server.log.line({ method: ECHO.slice(1), code: "canceled" });
  await server.log.line({ method: EXPAND.slice(1), code: streamEnd("unavailable") });
});

/** What a stream that its caller does not read is logged with: its reason on the fast path, the reset on the fallback. */
function streamEnd(reason: string): string {
  return process.env["FAST_PATH"] === "false" ? "canceled" : reason;
}

/** A server whose `echo` answers that many bytes, and whose `expand` does so without end. */
async function startLarge(t: TestContext, config: Record<string, unknown>, size = 100_000) {
  const closed = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<void>();
  const value = "x".repeat(size);
  let count = 0;
  const handlers: Partial<ServiceImpl<typeof EchoService>> = {
    echo() {
      count++;
      return { value };
    },
    async *expand(_request, { signal }) {
      count++;
      signal.addEventListener("abort", () => aborted.resolve());
      try {
        for (;;) yield { value };
      } finally {
        closed.resolve();
      }
    },
  };
  const server = await startServer(t, {
    config,
    routes: (router) => router.service(EchoService, { ...echo, ...handlers }),
  });
  return { server, closed: closed.promise, aborted: aborted.promise, begun: () => count };
}
