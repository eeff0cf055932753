import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Interceptor, ServiceImpl } from "@connectrpc/connect";
import { EchoService } from "#shared/testing";
import { startHttp1Peer, startPeer, startPool, until, within } from "../test-support.ts";

const wires = [
  { protocol: "grpc", http: "2", fast_path: true },
  { protocol: "grpc", http: "2", fast_path: false },
  { protocol: "connect", http: "2", fast_path: true },
  { protocol: "connect", http: "1.1", fast_path: false },
  { protocol: "grpc-web", http: "1.1", fast_path: false },
] as const;

/** A peer whose streams never end by themselves. */
async function setUp(t: TestContext, wire: (typeof wires)[number]) {
  const seen = { begun: 0, ended: 0, finally: 0 };
  const handlers: Partial<ServiceImpl<typeof EchoService>> = {
    async *expand(_request, { signal }) {
      seen.begun++;
      signal.addEventListener("abort", () => seen.ended++);
      for (let i = 1; !signal.aborted; i++) {
        yield { value: `${i}` };
        if (i === 3) await new Promise((resolve) => signal.addEventListener("abort", resolve));
      }
    },
  };
  const start =
    wire.http === "2"
      ? async (...args: Parameters<typeof startHttp1Peer>) => (await startPeer(...args)).address
      : startHttp1Peer;
  const address = await start(t, (router) => router.service(EchoService, handlers));
  const loop: Interceptor = (next) => async (req) => {
    const res = await next(req);
    if (!res.stream) return res;
    const { message } = res;
    async function* items() {
      try {
        for await (const item of message) yield item;
      } finally {
        seen.finally++;
      }
    }
    return { ...res, message: items() };
  };
  const { pool } = startPool(t, { address, ...wire }, { interceptors: [loop] });
  return { seen, pool, echo: pool.client("book-service", EchoService) };
}

for (const wire of wires) {
  const name = `${wire.protocol} over HTTP/${wire.http}, ${wire.fast_path ? "fast path" : "fallback"}`;

  test(`${name}: leaving the loop over a stream cancels the call and ends the interceptors' loops`, async (t) => {
    const { seen, pool, echo } = await setUp(t, wire);
    const got: string[] = [];
    for await (const { value } of echo.expand({ value: "" })) {
      got.push(value);
      if (got.length === 2) break;
    }
    assert.deepEqual(got, ["1", "2"]);
    assert.equal(seen.finally, 1);
    await until(() => seen.ended === 1 && pool.states()[0]?.openCalls === 0);
  });

  test(`${name}: a reader that waits can leave`, async (t) => {
    const { seen, pool, echo } = await setUp(t, wire);
    const iterator = echo.expand({ value: "" })[Symbol.asyncIterator]();
    for (let i = 0; i < 3; i++) await within(5_000, iterator.next());
    const waiting = assert.rejects(within(5_000, iterator.next()), /left the stream/);
    await within(5_000, iterator.return?.() ?? Promise.reject(new Error("it cannot be left")));
    await waiting;
    assert.deepEqual(await iterator.next(), { done: true, value: undefined });
    assert.equal(seen.finally, 1);
    await until(() => seen.ended === 1 && pool.states()[0]?.openCalls === 0);
  });
}
