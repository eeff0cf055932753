import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { EchoService } from "#shared/testing";
import { failureError } from "./protocols/failure-error.ts";
import { failureOf, type Routes, startPeer, startPool, until, within } from "./test-support.ts";

const wires = [
  { protocol: "grpc", http: "2", fast_path: true },
  { protocol: "grpc", http: "2", fast_path: false },
  { protocol: "connect", http: "2", fast_path: true },
  { protocol: "connect", http: "2", fast_path: false },
  { protocol: "grpc-web", http: "2", fast_path: true },
  { protocol: "connect", http: "1.1", fast_path: true },
  { protocol: "connect", http: "1.1", fast_path: false },
  { protocol: "grpc-web", http: "1.1", fast_path: true },
] as const;
type Wire = (typeof wires)[number];

const nameOf = ({ protocol, http, fast_path }: Wire) =>
  `${protocol} over HTTP/${http}, ${fast_path ? "fast path" : "fallback"}`;

/** A peer of stock Connect that shows the headers of its requests. */
async function startEcho(t: TestContext, wire: Wire, routes: Routes) {
  const seen: http.IncomingHttpHeaders[] = [];
  const adapter = connectNodeAdapter({ routes });
  if (wire.http === "2") {
    const peer = await startPeer(t, routes);
    peer.server.on("request", (request) => seen.push(request.headers));
    return { address: peer.address, seen };
  }
  const server = http.createServer((request, response) => {
    seen.push(request.headers);
    void adapter(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

function startEchoPool(t: TestContext, address: string, wire: Pick<Wire, "protocol" | "http" | "fast_path">) {
  const { pool } = startPool(t, { address, ...wire, timeout: "20s" });
  return { pool, echo: pool.client("book-service", EchoService), state: () => pool.states()[0] };
}

/** An HTTP/2 peer that treats its streams as the test says. */
async function startHttp2Peer(
  t: TestContext,
  onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
  options: http2.ServerOptions = {},
): Promise<string> {
  const server = http2.createServer(options);
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    onStream(stream, headers);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    for (const session of sessions) session.destroy();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

for (const wire of wires) {
  test(`${nameOf(wire)}: an upload that is given up never looks complete`, async (t) => {
    const taken = { begun: 0, whole: 0, cut: 0 };
    const { address } = await startEcho(t, wire, (router) =>
      router.service(EchoService, {
        async collect(requests) {
          try {
            for await (const _ of requests) taken.begun++;
            taken.whole++;
          } catch (error) {
            taken.cut++;
            throw error;
          }
          return {};
        },
      }),
    );
    const { echo, state } = startEchoPool(t, address, wire);
    const leaving = new AbortController();
    async function* upload(end: () => Promise<void>) {
      yield { value: "a" };
      await end();
    }
    const until1 = (count: number) => until(() => taken.begun === count);
    const cancelled = echo.collect(
      upload(async () => {
        await until1(1);
        leaving.abort();
        await delay(20);
      }),
      { signal: leaving.signal },
    );
    assert.equal((await failureOf(cancelled)).code, Code.Canceled);
    await until(() => taken.cut === 1);
    const thrown = echo.collect(
      upload(async () => {
        await until1(2);
        throw new ConnectError("the source broke", Code.DataLoss);
      }),
    );
    assert.equal((await failureOf(thrown)).code, Code.DataLoss);
    await until(() => taken.cut === 2);
    const late = echo.collect(
      upload(() => delay(400)),
      { timeoutMs: 150 },
    );
    assert.equal((await failureOf(late)).code, Code.DeadlineExceeded);
    await until(() => state()?.openCalls === 0);
    assert.equal(taken.whole, 0);
  });

  test(`${nameOf(wire)}: headers that belong to the transport are not sent, in any case of letters`, async (t) => {
    const { address, seen } = await startEcho(t, wire, (router) =>
      router.service(EchoService, { echo: ({ value }) => ({ value }) }),
    );
    const { echo } = startEchoPool(t, address, wire);
    const headers: [string, string][] = [
      ["Content-Length", "3"],
      ["CONNECTION", "close, x-own"],
      ["keep-alive", "timeout=1"],
      ["Transfer-Encoding", "chunked"],
      ["upgrade", "h2c"],
      ["Proxy-Connection", "x"],
      ["Host", "elsewhere"],
      ["x-own", "mine"],
    ];
    assert.equal((await echo.echo({ value: "hello" }, { headers })).value, "hello");
    assert.equal((await echo.echo({ value: "again" }, { headers: new Headers(headers) })).value, "again");
    for (const { "x-own": own, upgrade, host, "proxy-connection": proxy } of seen) {
      assert.deepEqual([own, upgrade, proxy], ["mine", undefined, undefined]);
      assert.ok(host === undefined || host === address);
    }
    assert.equal(seen.length, 2);
  });
}

for (const wire of wires.filter(({ http }) => http === "2")) {
  test(`${nameOf(wire)}: more unsent bytes than a session of Node may have fail no call`, async (t) => {
    const { address } = await startEcho(t, wire, (router) =>
      router.service(EchoService, { echo: ({ value }) => ({ value: `${value.length}` }) }),
    );
    const { echo } = startEchoPool(t, address, wire);
    const value = "x".repeat(200_000);
    const all = await Promise.all(Array.from({ length: 100 }, () => echo.echo({ value })));
    assert.deepEqual(new Set(all.map((response) => response.value)), new Set(["200000"]));
  });

  test(`${nameOf(wire)}: every reset ends its call at once with gRPC's code, also while the request is being sent`, async (t) => {
    const codes: Record<number, Code> = {
      0: Code.Unavailable,
      1: Code.Internal,
      7: Code.Unavailable,
      8: Code.Canceled,
      11: Code.ResourceExhausted,
      12: Code.PermissionDenied,
      13: Code.PermissionDenied,
    };
    let reset = 0;
    const address = await startHttp2Peer(t, (stream) => stream.close(reset));
    const { echo, state } = startEchoPool(t, address, wire);
    async function* one(value: string) {
      yield { value };
    }
    for (const [code, expected] of Object.entries(codes)) {
      reset = Number(code);
      for (const value of ["", "x".repeat(2_000_000)]) {
        const calls = [echo.echo({ value }), echo.collect(one(value))].map(failureOf);
        for (const call of calls) assert.equal((await within(5_000, call)).code, expected, `reset ${code}`);
      }
    }
    await until(() => state()?.openCalls === 0);
  });

  test(`${nameOf(wire)}: headers that are larger than the peer takes fail their call, and nothing else`, async (t) => {
    let streams = 0;
    const settings = { maxHeaderListSize: 2_000 };
    const address = await startHttp2Peer(t, () => streams++, { settings });
    const { echo, state } = startEchoPool(t, address, wire);
    const leaving = new AbortController();
    const beside = failureOf(echo.echo({ value: "" }, { signal: leaving.signal }));
    await until(() => streams === 1);
    for (const size of [2_000, 100_000]) {
      const error = await failureOf(echo.echo({ value: "" }, { headers: { "x-large": "x".repeat(size) } }));
      assert.equal(error.code, Code.ResourceExhausted);
    }
    assert.equal(streams, 1);
    assert.equal(state()?.endpoints[0]?.state, "ready");
    assert.equal(state()?.endpoints[0]?.connections, 1);
    leaving.abort();
    assert.equal((await beside).code, Code.Canceled);
  });
}

/** What cannot be read of a failure, as gRPC has it. */
const unreadable: Record<string, { readonly fields: Record<string, string>; readonly message: string }> = {
  "a message": { fields: { "grpc-message": "%E2%8" }, message: "%E2%8" },
  "base64 of details": { fields: { "grpc-message": "no", "grpc-status-details-bin": "%%%" }, message: "no" },
  details: { fields: { "grpc-message": "no", "grpc-status-details-bin": "/////w" }, message: "no" },
};

for (const fast_path of [true, false]) {
  for (const [what, { fields, message }] of Object.entries(unreadable)) {
    test(`grpc, ${fast_path ? "fast path" : "fallback"}: ${what} that cannot be read does not replace the code`, async (t) => {
      const address = await startHttp2Peer(t, (stream, { ":path": path }) => {
        const failed = { "grpc-status": "5", ...fields };
        const head = { ":status": 200, "content-type": "application/grpc" };
        if (path?.endsWith("Echo")) stream.respond({ ...head, ...failed }, { endStream: true });
        else {
          stream.respond(head, { waitForTrailers: true });
          stream.on("wantTrailers", () => stream.sendTrailers(failed));
          stream.end();
        }
      });
      const { echo } = startEchoPool(t, address, { protocol: "grpc", http: "2", fast_path });
      const stream = echo.expand({ value: "" })[Symbol.asyncIterator]();
      for (const call of [echo.echo({ value: "" }), stream.next()].map(failureOf)) {
        const error = await call;
        assert.deepEqual([error.code, error.rawMessage, error.details], [Code.NotFound, message, []]);
      }
    });
  }

  for (const version of ["2", "1.1"] as const) {
    test(`connect over HTTP/${version}, ${fast_path ? "fast path" : "fallback"}: a detail that cannot be read does not replace the code`, async (t) => {
      const good = { type: "google.protobuf.StringValue", value: "CgN3aHk" };
      const json = { code: "not_found", message: "no", details: [good, { type: "a", value: "%" }, 1] };
      const frame = (body: string) => {
        const prefix = Buffer.of(2, 0, 0, 0, body.length);
        return Buffer.concat([prefix, Buffer.from(body)]);
      };
      const respond: http.RequestListener = (request, response) => {
        request.resume();
        if (request.url?.endsWith("Echo")) {
          response.writeHead(400, { "content-type": "application/json" }).end(JSON.stringify(json));
        } else {
          response.writeHead(200, { "content-type": "application/connect+proto" });
          response.end(frame(JSON.stringify({ error: json })));
        }
      };
      const server =
        version === "2"
          ? http2.createServer(respond as unknown as Parameters<typeof http2.createServer>[0])
          : http.createServer(respond);
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      t.after(() => void server.close());
      const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
      const { echo } = startEchoPool(t, address, { protocol: "connect", http: version, fast_path });
      const stream = echo.expand({ value: "" })[Symbol.asyncIterator]();
      for (const call of [echo.echo({ value: "" }), stream.next()].map(failureOf)) {
        const error = await call;
        assert.deepEqual([error.code, error.rawMessage], [Code.NotFound, "no"]);
        assert.deepEqual(
          error.details.map((detail) => ("type" in detail ? detail.type : detail)),
          [good.type],
        );
      }
    });
  }
}

test("a response that is complete before its stream is reset is that response", async (t) => {
  for (const reset of [0, 8]) {
    const address = await startHttp2Peer(t, (stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => {
        stream.sendTrailers({ "grpc-status": "0" });
        setImmediate(() => stream.close(reset));
      });
      stream.end(Buffer.of(0, 0, 0, 0, 0));
    });
    const { echo } = startEchoPool(t, address, { protocol: "grpc", http: "2", fast_path: true });
    assert.equal((await within(5_000, echo.echo({ value: "x".repeat(2_000_000) }))).value, "");
  }
});

test("a reset with CANCEL at the call's deadline is DEADLINE_EXCEEDED, also when the peer's clock rounds down", (t) => {
  t.mock.method(performance, "now", () => 1_000);
  const reset = { kind: "reset", http2Code: http2.constants.NGHTTP2_CANCEL, isProcessed: true } as const;
  const codeAt = (deadlineMs: number | undefined) => failureError(reset, deadlineMs).code;
  assert.deepEqual([999, 1_000, 1_001].map(codeAt), Array(3).fill(Code.DeadlineExceeded));
  assert.deepEqual([1_002, undefined].map(codeAt), Array(2).fill(Code.Canceled));
});

test("a response with more headers than this side takes costs its call only", async (t) => {
  const address = await startHttp2Peer(
    t,
    (stream, { "x-large": large }) => {
      const fields = Object.fromEntries(Array.from({ length: 1_200 }, (_, index) => [`x-${index}`, "1"]));
      const head = { ":status": 200, "content-type": "application/grpc", ...(large === undefined ? {} : fields) };
      stream.respond(head, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.of(0, 0, 0, 0, 0));
    },
    { maxSendHeaderBlockLength: 1 << 20 },
  );
  const { echo, state } = startEchoPool(t, address, { protocol: "grpc", http: "2", fast_path: true });
  await echo.echo({ value: "" });
  const failure = failureOf(echo.echo({ value: "" }, { headers: { "x-large": "1" } }));
  assert.equal((await within(5_000, failure)).code, Code.ResourceExhausted);
  assert.equal((await echo.echo({ value: "" })).value, "");
  assert.equal(state()?.endpoints[0]?.state, "ready");
});
