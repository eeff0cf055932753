import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { queryObjects } from "node:v8";
import {
  answerOf,
  callHttp1,
  collectGarbage,
  connectHttp2,
  EchoService,
  echo,
  envelope,
  startServer,
  until,
} from "#shared/testing";
import { Http2Exchange } from "./http/http2-exchange.ts";
import { ServerCall } from "./rpc/call.ts";

const message = Buffer.from([0x0a, 1, 0x61]);

function count(kind: Parameters<typeof queryObjects>[0]): number {
  return Number(queryObjects(kind, { format: "count" }));
}

/** How many times more calls than usual, for a longer look: `LEAK_FACTOR=4`. */
const factor = Number(process.env["LEAK_FACTOR"] ?? 1);

/** What each call has of its own, and is gone when the call is. */
function leftovers() {
  collectGarbage();
  return {
    http2Requests: count(http2.Http2ServerRequest),
    exchanges: count(Http2Exchange),
    calls: count(ServerCall as never),
    http1Requests: count(http.IncomingMessage),
    http1Responses: count(http.ServerResponse),
    signals: count(AbortSignal),
  };
}

/** Waits until no more of each is left than `allowed`: what a call leaves to the next turn of the event loop goes too. */
async function untilGone(allowed: Partial<ReturnType<typeof leftovers>>): Promise<void> {
  let left = leftovers();
  const isGone = async () => {
    await delay(50);
    left = leftovers();
    return Object.entries(allowed).every(([what, count]) => left[what as keyof typeof left] <= count);
  };
  await until("the calls to be gone", isGone).catch((cause: unknown) => {
    throw new Error(`left over: ${JSON.stringify(left)}, allowed: ${JSON.stringify(allowed)}`, { cause });
  });
}

function warnings(t: { after(fn: () => void): void }): Error[] {
  const list: Error[] = [];
  // node:v8's own word about queryObjects is no leak.
  const listen = (warning: Error) => void (warning.name === "ExperimentalWarning" || list.push(warning));
  process.on("warning", listen);
  t.after(() => process.off("warning", listen));
  return list;
}

test("5 000 unary calls leave nothing behind", async (t) => {
  const warned = warnings(t);
  const server = await startServer(t, { config: { max_concurrent_streams: 100 } });
  server.log.logger.level = "silent";
  const { call } = await connectHttp2(t, server.url);
  const one = () => call("/testing.v1.EchoService/Echo", { "content-type": "application/grpc" }, envelope(message));
  const many = async (count: number) => {
    const callers = Array.from({ length: 50 }, async () => {
      for (let i = 0; i < count / 50; i++) assert.equal((await one()).trailers["grpc-status"], "0");
    });
    await Promise.all(callers);
  };
  await many(1_000);
  const before = leftovers();
  const heapBefore = process.memoryUsage().heapUsed;
  await many(factor * 4_000);
  await untilGone({ http2Requests: 5, exchanges: 5, calls: 5, signals: before.signals + 20 });
  const grown = process.memoryUsage().heapUsed - heapBefore;
  assert.ok(grown < 8 * 1024 * 1024, `the heap grew by ${grown} bytes`);
  assert.deepEqual(warned, []);
});

test("300 calls over HTTP/1.1, each on its own connection, leave nothing behind", async (t) => {
  const warned = warnings(t);
  const server = await startServer(t);
  server.log.logger.level = "silent";
  const one = () =>
    callHttp1(server.url, "/testing.v1.EchoService/Echo", { "content-type": "application/json" }, '"ada"');
  const before = leftovers();
  for (let i = 0; i < factor * 15; i++) {
    for (const { status } of await Promise.all(Array.from({ length: 20 }, one))) assert.equal(status, 200);
  }
  await untilGone({ http1Requests: 25, http1Responses: 25, signals: before.signals + 25 });
  assert.deepEqual(warned, []);
});

test("500 cancelled streams leave nothing behind, and every generator is closed", async (t) => {
  const warned = warnings(t);
  let open = 0;
  const server = await startServer(t, {
    routes: (router) =>
      router.service(EchoService, {
        ...echo,
        async *expand(_request, { signal }) {
          open++;
          try {
            yield { value: "first" };
            await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
          } finally {
            open--;
          }
        },
      }),
  });
  server.log.logger.level = "silent";
  // On several connections: one that cancels so much at once is taken for an attack.
  const connections = await Promise.all(Array.from({ length: 4 }, () => connectHttp2(t, server.url)));
  const cancelled = async (i: number) => {
    const stream = connections[i % 4]!.open("/testing.v1.EchoService/Expand", { "content-type": "application/grpc" });
    stream.end(envelope(message));
    await once(stream, "data");
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await answerOf(stream);
  };
  await cancelled(0);
  const before = leftovers();
  // Many calls at once share the server's shutdown signal, which must not warn of too many listeners.
  for (let round = 0; round < factor * 5; round++) {
    await Promise.all(Array.from({ length: 100 }, (_, i) => cancelled(i)));
  }
  await until("every generator's end", () => open === 0);
  await untilGone({ http2Requests: 5, exchanges: 5, calls: 5, signals: before.signals + 50 });
  assert.deepEqual(warned, []);
});

test("200 connections that come and go leave nothing behind", async (t) => {
  const warned = warnings(t);
  const server = await startServer(t);
  const comeAndGo = async () => {
    const session = http2.connect(server.url);
    session.on("error", () => {});
    await once(session, "remoteSettings");
    session.destroy();
    // Of client and server sessions alike.
    return Object.getPrototypeOf(session.constructor) as typeof Object;
  };
  const Session = await comeAndGo();
  const left = () => {
    collectGarbage();
    return count(Session);
  };
  const before = left();
  for (let i = 0; i < 200; i++) await comeAndGo();
  await until("the sessions to be gone", async () => {
    await delay(50);
    return left() <= before + 5;
  });
  assert.deepEqual(warned, []);
});
