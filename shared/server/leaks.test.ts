import assert from "node:assert/strict";
import http from "node:http";
import http2 from "node:http2";
import { test } from "node:test";
import { queryObjects, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { connectHttp2, EchoService, echo, envelope, startServer, until } from "#shared/testing";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
const message = Buffer.from([0x0a, 1, 0x61]);

/** What each call has of its own, and is gone when the call is. */
function leftovers() {
  collectGarbage();
  return {
    http2Requests: queryObjects(http2.Http2ServerRequest),
    http1Requests: queryObjects(http.IncomingMessage),
    http1Responses: queryObjects(http.ServerResponse),
    signals: queryObjects(AbortSignal),
  };
}

/** Waits until no more of each is left than `allowed`: what a call leaves to the next turn of the event loop goes too. */
async function untilGone(allowed: Partial<ReturnType<typeof leftovers>>): Promise<void> {
  let left = leftovers();
  const isGone = () => {
    left = leftovers();
    return Object.entries(allowed).every(([what, count]) => left[what as keyof typeof left] <= count);
  };
  await until("the calls to be gone", isGone).catch((cause: unknown) => {
    throw new Error(`left over: ${JSON.stringify(left)}, allowed: ${JSON.stringify(allowed)}`, { cause });
  });
}

function warnings(t: { after(fn: () => void): void }): Error[] {
  const list: Error[] = [];
  const listen = (warning: Error) => void list.push(warning);
  process.on("warning", listen);
  t.after(() => process.off("warning", listen));
  return list;
}

test("20 000 unary calls leave nothing behind", async (t) => {
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
  await many(2_000);
  const before = leftovers();
  const heapBefore = process.memoryUsage().heapUsed;
  await many(18_000);
  await untilGone({ http2Requests: 5, signals: before.signals + 20 });
  const grown = process.memoryUsage().heapUsed - heapBefore;
  assert.ok(grown < 8 * 1024 * 1024, `the heap grew by ${grown} bytes`);
  assert.deepEqual(warned, []);
});

test("2 000 calls over HTTP/1.1, each on its own connection or a shared one, leave nothing behind", async (t) => {
  const warned = warnings(t);
  const server = await startServer(t);
  server.log.logger.level = "silent";
  const client = createClient(EchoService, createConnectTransport({ baseUrl: server.url, httpVersion: "1.1" }));
  const before = leftovers();
  for (let i = 0; i < 40; i++) {
    await Promise.all(Array.from({ length: 50 }, () => client.echo({ value: "ada" })));
  }
  // The last of a connection that is kept alive stays with it.
  await untilGone({ http1Requests: 60, http1Responses: 60, signals: before.signals + 60 });
  assert.deepEqual(warned, []);
});

test("2 000 cancelled streams leave nothing behind, and every generator is closed", async (t) => {
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
  const client = createClient(EchoService, createGrpcTransport({ baseUrl: server.url }));
  const cancelled = async () => {
    const leave = new AbortController();
    const items = client.expand({ value: "x" }, { signal: leave.signal })[Symbol.asyncIterator]();
    await items.next();
    leave.abort();
    await items.next().catch(() => {});
  };
  await cancelled();
  const before = leftovers();
  // Many calls at once share the server's shutdown signal, which must not warn of too many listeners.
  for (let i = 0; i < 20; i++) await Promise.all(Array.from({ length: 100 }, cancelled));
  await until("every generator's end", () => open === 0);
  await untilGone({ http2Requests: 5, signals: before.signals + 50 });
  assert.deepEqual(warned, []);
});

test("connections that come and go leave nothing behind", async (t) => {
  const warned = warnings(t);
  const server = await startServer(t);
  const sessionClasses = new Set<new () => object>();
  for (let i = 0; i < 200; i++) {
    const session = http2.connect(server.url);
    // Of client and server sessions alike.
    sessionClasses.add(Object.getPrototypeOf(session.constructor));
    session.on("error", () => {});
    await new Promise((resolve) => session.once("remoteSettings", resolve));
    session.destroy();
  }
  await until("the sessions to be gone", () => {
    collectGarbage();
    return [...sessionClasses].every((Session) => queryObjects(Session) <= 5);
  });
  assert.deepEqual(warned, []);
});
