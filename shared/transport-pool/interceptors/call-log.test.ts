import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { runInCall, startTrace } from "#shared/call-context";
import { failureOf, type LogLine, type Routes, startPeer, startPool, until } from "../test-support.ts";

const routes: Routes = (router) => {
  router.service(BookService, {
    getBook: ({ id }) => {
      if (id === "") return {};
      throw new ConnectError("no", Code[id as keyof typeof Code]);
    },
  });
  router.service(OrderService, {
    async *watchOrder({ id }, { signal }) {
      yield { order: { id } };
      if (id === "fail") throw new ConnectError("no", Code.DataLoss);
      if (id === "hang") await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
  });
};

const calls = (lines: LogLine[]) => lines.filter(({ msg }) => msg === "outgoing call");

test("a call that goes well is one line at debug, with method, code, ms, attempt, service and peer", async (t) => {
  const peer = await startPeer(t, routes);
  const { books, lines } = startPool(t, { address: peer.address });
  const call = {
    method: "user.v1.UserService/SayHello",
    requestId: "request-1",
    trace: { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", flags: 1 },
    signal: new AbortController().signal,
  };
  await runInCall(call, () => books.getBook({ id: "" }));
  // The connection serves many calls: its lines carry the ids of none.
  const connected = lines.find(({ msg }) => msg.startsWith("connected to"));
  assert.ok(connected !== undefined && !("trace_id" in connected));
  const [line, ...more] = calls(lines);
  assert.deepEqual(more, []);
  const { time, ms, ...fields } = line as LogLine;
  assert.ok(typeof time === "string");
  assert.ok(typeof ms === "number" && ms >= 0 && ms < 5_000);
  assert.deepEqual(fields, {
    level: "debug",
    msg: "outgoing call",
    service: "user-service",
    peer_service: "book-service",
    peer: peer.address,
    method: "book.v1.BookService/GetBook",
    code: "ok",
    attempt: 1,
    trace_id: call.trace.traceId,
    request_id: "request-1",
  });
});

for (const [code, level] of [
  ["NotFound", "info"],
  ["InvalidArgument", "info"],
  ["AlreadyExists", "info"],
  ["FailedPrecondition", "info"],
  ["Unauthenticated", "info"],
  ["Internal", "warn"],
  ["Unavailable", "warn"],
  ["DeadlineExceeded", "warn"],
  ["ResourceExhausted", "warn"],
  ["Unimplemented", "warn"],
] as const) {
  test(`${code} is one line at ${level}`, async (t) => {
    const peer = await startPeer(t, routes);
    const { books, lines } = startPool(t, { address: peer.address });
    assert.equal((await failureOf(books.getBook({ id: code }))).code, Code[code]);
    assert.equal(calls(lines).length, 1);
    assert.equal(calls(lines)[0]?.level, level);
    assert.equal(calls(lines)[0]?.code, code.replace(/(?<=[a-z])[A-Z]/g, "_$&").toLowerCase());
  });
}

test("a stream is one line, when it has ended: well, with an error, or because its reader left", async (t) => {
  const peer = await startPeer(t, routes);
  const { pool, lines } = startPool(t, { address: peer.address });
  const orders = pool.client("book-service", OrderService);

  const well = orders.watchOrder({ id: "o1" })[Symbol.asyncIterator]();
  await well.next();
  assert.equal(calls(lines).length, 0);
  assert.equal((await well.next()).done, true);
  assert.deepEqual(
    calls(lines).map(({ code, level }) => [code, level]),
    [["ok", "debug"]],
  );

  const failing = orders.watchOrder({ id: "fail" })[Symbol.asyncIterator]();
  await failing.next();
  assert.equal((await failureOf(failing.next())).code, Code.DataLoss);
  assert.equal(calls(lines).length, 2);
  assert.equal(calls(lines)[1]?.code, "data_loss");

  const reader = new AbortController();
  const left = orders.watchOrder({ id: "hang" }, { signal: reader.signal })[Symbol.asyncIterator]();
  await left.next();
  reader.abort();
  await until(() => calls(lines).length === 3);
  assert.deepEqual([calls(lines)[2]?.code, calls(lines)[2]?.level], ["canceled", "info"]);
});

test("a call that its incoming call leaves behind says nothing of its peer", async (t) => {
  const peer = await startPeer(t, routes);
  const { pool, lines } = startPool(t, { address: peer.address });
  const orders = pool.client("book-service", OrderService);
  const ended = new AbortController();
  const incoming = { method: "a.B/C", requestId: "r", trace: startTrace(), signal: ended.signal };
  await runInCall(incoming, async () => {
    const left = orders.watchOrder({ id: "hang" })[Symbol.asyncIterator]();
    await left.next();
    ended.abort(new ConnectError("another peer is down", Code.Unavailable));
    await until(() => calls(lines).length === 1);
  });
  assert.deepEqual([calls(lines)[0]?.code, calls(lines)[0]?.level], ["canceled", "info"]);
});

test("the user's interceptors run after the log, the first one outermost, and see what is sent", async (t) => {
  const peer = await startPeer(t, routes);
  const order: string[] = [];
  const named =
    (name: string): Interceptor =>
    (next) =>
    async (req) => {
      order.push(`${name} ${req.header.get("x-caller")}`);
      try {
        return await next(req);
      } finally {
        order.push(`${name} done`);
      }
    };
  const { books } = startPool(t, { address: peer.address }, { interceptors: [named("a"), named("b")] });
  await books.getBook({ id: "" });
  assert.deepEqual(order, ["a user-service", "b user-service", "b done", "a done"]);
});
