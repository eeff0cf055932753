import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, type ServiceImpl } from "@connectrpc/connect";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { failureOf, startPeer, startPool, until, within } from "../test-support.ts";

const SIZE = 1_000;
const WINDOWS = { stream_window_bytes: 65_535, connection_window_bytes: 65_535 };
/** What may be on its way: two windows of HTTP/2, what either side keeps ahead, and the peer's buffers. */
const MOST_BYTES = 2 * 65_535 + 2 * 64 * 1024 + 64 * 1024;

interface Sent {
  count: number;
  isClosed: boolean;
}

async function startOrders(t: TestContext, most = Number.POSITIVE_INFINITY) {
  const sent: Sent = { count: 0, isClosed: false };
  const handlers: Partial<ServiceImpl<typeof OrderService>> = {
    async *watchOrder() {
      try {
        while (sent.count < most) {
          sent.count++;
          yield { order: { id: `${sent.count}`.padStart(SIZE) } };
        }
      } finally {
        sent.isClosed = true;
      }
    },
  };
  const peer = await startPeer(t, (router) => router.service(OrderService, handlers));
  const { pool } = startPool(t, { address: peer.address, ...WINDOWS });
  return { sent, orders: pool.client("book-service", OrderService) };
}

/** Until nothing more comes. */
async function standstill(sent: Sent): Promise<void> {
  let before = -1;
  let rounds = 0;
  await until(() => {
    rounds = sent.count === before ? rounds + 1 : 0;
    before = sent.count;
    return rounds > 20;
  }, 20_000);
}

test("a reader that does not read holds its peer back, and one that leaves by its signal ends it", async (t) => {
  const { sent, orders } = await startOrders(t);
  const leaving = new AbortController();
  const iterator = orders.watchOrder({ id: "o" }, { signal: leaving.signal })[Symbol.asyncIterator]();
  await within(5_000, iterator.next());
  await standstill(sent);
  assert.ok(sent.count * SIZE < MOST_BYTES, `${sent.count} messages`);
  const before = sent.count;
  for (let read = 0; read < before; read++) await within(5_000, iterator.next());
  await until(() => sent.count > before);
  leaving.abort();
  assert.equal((await failureOf(iterator.next())).code, Code.Canceled);
  await until(() => sent.isClosed);
});

test("a reader that is slow has every message, in its order", async (t) => {
  const { orders } = await startOrders(t, 500);
  let count = 0;
  for await (const { order } of orders.watchOrder({ id: "o" })) {
    count++;
    assert.equal(Number(order?.id), count);
    if (count % 20 === 0) await new Promise(setImmediate);
  }
  assert.equal(count, 500);
});

test("asks that do not wait for one another are answered in their order", async (t) => {
  const { orders } = await startOrders(t, 5);
  const iterator = orders.watchOrder({ id: "o" })[Symbol.asyncIterator]();
  const results = await within(5_000, Promise.all(Array.from({ length: 7 }, () => iterator.next())));
  assert.deepEqual(
    results.map(({ done, value }) => (done === true ? "done" : Number(value.order?.id))),
    [1, 2, 3, 4, 5, "done", "done"],
  );
});

test("messages without a byte hold their peer back, too", async (t) => {
  let sent = 0;
  const handlers: Partial<ServiceImpl<typeof OrderService>> = {
    async *watchOrder() {
      for (;;) {
        sent++;
        yield {};
      }
    },
  };
  const peer = await startPeer(t, (router) => router.service(OrderService, handlers));
  const { pool } = startPool(t, { address: peer.address, ...WINDOWS });
  const iterator = pool.client("book-service", OrderService).watchOrder({ id: "o" })[Symbol.asyncIterator]();
  await within(5_000, iterator.next());
  const counted = {
    get count() {
      return sent;
    },
    isClosed: false,
  };
  await standstill(counted);
  // Of 5 bytes each, in what may be on its way.
  assert.ok(sent < MOST_BYTES / 5, `${sent} messages`);
});
