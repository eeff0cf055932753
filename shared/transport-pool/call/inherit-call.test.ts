import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { getEventListeners, once } from "node:events";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { BookService } from "#gen/book/v1/book_pb.ts";
import { OrderService } from "#gen/order/v1/order_pb.ts";
import { type CallContext, detached, runInCall, runInEmbeddedTransaction } from "#shared/call-context";
import { failureOf, startPeer, startPool, until, within } from "../test-support.ts";

const TRACE = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331", flags: 1, state: "vendor=1" };

function incoming(call: Partial<CallContext> = {}): CallContext {
  const signal = new AbortController().signal;
  return { method: "user.v1.UserService/SayHello", requestId: "request-1", trace: TRACE, signal, ...call };
}

function inMs(ms: number): Partial<CallContext> {
  return { deadlineMs: performance.now() + ms };
}

/** A peer whose handlers tell what they were called with, and then hang if they are asked for the book "hang". */
async function startWitness(t: Parameters<typeof startPeer>[0]) {
  const calls: { timeoutMs: number | undefined; headers: Headers; context: HandlerContext }[] = [];
  const note = (context: HandlerContext) =>
    calls.push({ timeoutMs: context.timeoutMs(), headers: context.requestHeader, context });
  const peer = await startPeer(t, (router) => {
    router.service(BookService, {
      getBook: async ({ id }, context) => {
        note(context);
        if (id === "hang") await once(context.signal, "abort");
        return {};
      },
    });
    router.service(OrderService, {
      async *watchOrder({ id }, context) {
        note(context);
        yield { order: { id } };
        if (id === "hang") await once(context.signal, "abort");
      },
    });
  });
  const started = startPool(t, { address: peer.address, timeout: "400ms" });
  return { ...started, peer, calls, orders: started.pool.client("book-service", OrderService) };
}

test("the peer is told the service's timeout, and an explicit one instead of it", async (t) => {
  const { books, calls } = await startWitness(t);
  await books.getBook({ id: "b1" });
  await books.getBook({ id: "b1" }, { timeoutMs: 3_000 });
  await books.getBook({ id: "b1" }, { timeoutMs: 0 });
  const [byDefault, explicit, none] = calls.map(({ timeoutMs }) => timeoutMs);
  assert.ok(byDefault !== undefined && byDefault > 200 && byDefault <= 400);
  assert.ok(explicit !== undefined && explicit > 2_000 && explicit <= 3_000);
  assert.equal(none, undefined);
});

test("a call inherits what the incoming one has left, less a reserve", async (t) => {
  const { books, calls } = await startWitness(t);
  await runInCall(incoming(inMs(2_000)), () => books.getBook({ id: "b1" }, { timeoutMs: 60_000 }));
  await runInCall(incoming(inMs(300)), () => books.getBook({ id: "b1" }));
  await runInCall(incoming(inMs(60_000)), () => books.getBook({ id: "b1" }));
  const [long, short, own] = calls.map(({ timeoutMs }) => timeoutMs);
  assert.ok(long !== undefined && long > 1_000 && long <= 1_950);
  assert.ok(short !== undefined && short > 100 && short <= 270);
  assert.ok(own !== undefined && own <= 400);
});

test("a call inside a transaction on an embedded database is refused and names the cure", async (t) => {
  const { books, orders, calls } = await startWitness(t);
  const refusal = { code: "failed_precondition", reason: "EMBEDDED_TRANSACTION_BUSY", message: /`prepare` step/ };
  let outlives: (() => Promise<unknown>) | undefined;
  const call = () => books.getBook({ id: "b1" });
  await runInCall(incoming(), () =>
    runInEmbeddedTransaction(async () => {
      await assert.rejects(call(), refusal);
      await assert.rejects(detached(call), refusal);
      await assert.rejects(orders.watchOrder({ id: "o1" })[Symbol.asyncIterator]().next(), refusal);
      assert.equal(calls.length, 0);
      outlives = AsyncLocalStorage.bind(call);
    }),
  );
  await outlives?.();
  assert.equal(calls.length, 1);
  assert.equal(calls[0]?.headers.get("x-request-id"), "request-1");
});

test("a stream has no timeout but an explicit or inherited one", async (t) => {
  const { orders, calls } = await startWitness(t);
  const read = async (stream: AsyncIterable<unknown>) => {
    for await (const _ of stream);
  };
  await read(orders.watchOrder({ id: "o1" }));
  await read(orders.watchOrder({ id: "o1" }, { timeoutMs: 3_000 }));
  await runInCall(incoming(inMs(2_000)), () => read(orders.watchOrder({ id: "o1" })));
  const [none, explicit, inherited] = calls.map(({ timeoutMs }) => timeoutMs);
  assert.equal(none, undefined);
  assert.ok(explicit !== undefined && explicit > 2_000 && explicit <= 3_000);
  assert.ok(inherited !== undefined && inherited > 1_000 && inherited <= 1_950);
});

test("an expired deadline fails with DEADLINE_EXCEEDED without a connection, and is in the log", async (t) => {
  const { books, orders, peer, lines } = await startWitness(t);
  const late = incoming(inMs(-1));
  const unary = await runInCall(late, () => failureOf(books.getBook({ id: "b1" })));
  const streaming = await runInCall(late, () => {
    const iterator = orders.watchOrder({ id: "o1" })[Symbol.asyncIterator]();
    return failureOf(iterator.next());
  });
  assert.equal(unary.code, Code.DeadlineExceeded);
  assert.equal(streaming.code, Code.DeadlineExceeded);
  assert.equal(lines.filter(({ code }) => code === "deadline_exceeded").length, 2);
  assert.equal(peer.sessionCount(), 0);
});

test("an inherited deadline that passes ends the call with DEADLINE_EXCEEDED, here and at the peer", async (t) => {
  const { books, calls } = await startWitness(t);
  const error = await runInCall(incoming(inMs(100)), () => failureOf(books.getBook({ id: "hang" })));
  assert.equal(error.code, Code.DeadlineExceeded);
  await until(() => calls[0]?.context.signal.aborted === true);
});

test("when the caller leaves, its outgoing calls end with CANCELED, and their handlers' signals abort", async (t) => {
  const { books, orders, calls } = await startWitness(t);
  const caller = new AbortController();
  await runInCall(incoming({ signal: caller.signal }), async () => {
    const unary = failureOf(books.getBook({ id: "hang" }, { timeoutMs: 0 }));
    const stream = orders.watchOrder({ id: "hang" })[Symbol.asyncIterator]();
    await stream.next();
    const streaming = failureOf(stream.next());
    await until(() => calls.length === 2);
    caller.abort(new ConnectError("the caller has left", Code.Canceled));
    for (const error of await within(1_000, Promise.all([unary, streaming]))) assert.equal(error.code, Code.Canceled);
  });
  await until(() => calls.every(({ context }) => context.signal.aborted));
  for (const { context } of calls) assert.equal(ConnectError.from(context.signal.reason).code, Code.Canceled);
});

test("when the incoming call's deadline passes, the code says so", async (t) => {
  const { books, calls } = await startWitness(t);
  const caller = new AbortController();
  const call = runInCall(incoming({ signal: caller.signal }), () => failureOf(books.getBook({ id: "hang" })));
  await until(() => calls.length === 1);
  caller.abort(new ConnectError("the operation timed out", Code.DeadlineExceeded));
  assert.equal((await within(1_000, call)).code, Code.DeadlineExceeded);
  // To the peer it is a cancellation (RST_STREAM with CANCEL), no error of the protocol.
  await until(() => calls[0]?.context.signal.aborted === true);
  assert.equal(ConnectError.from(calls[0]?.context.signal.reason).code, Code.Canceled);
});

test("a call ends by its own signal and by the caller's, whichever is first", async (t) => {
  const { books, calls } = await startWitness(t);
  for (const first of ["own", "caller"]) {
    const own = new AbortController();
    const caller = new AbortController();
    const call = runInCall(incoming({ signal: caller.signal }), () =>
      failureOf(books.getBook({ id: "hang" }, { signal: own.signal, timeoutMs: 0 })),
    );
    const seen = calls.length;
    await until(() => calls.length > seen);
    (first === "own" ? own : caller).abort();
    assert.equal((await within(1_000, call)).code, Code.Canceled);
  }
});

test("a call ends by the incoming call's signal when that is its own as well", async (t) => {
  const { pool, calls } = await startWitness(t);
  const leaving = new AbortController();
  const { getBook } = BookService.method;
  const call = runInCall(incoming({ signal: leaving.signal }), () =>
    pool.transport("book-service").unary(getBook, leaving.signal, undefined, undefined, { id: "hang" }),
  );
  const failure = failureOf(call);
  await until(() => calls.length > 0);
  leaving.abort();
  assert.equal((await failure).code, Code.Canceled);
  assert.deepEqual(getEventListeners(leaving.signal, "abort"), []);
});

test("a call that nobody waits for any more is not sent", async (t) => {
  const { books, peer } = await startWitness(t);
  const error = await failureOf(books.getBook({ id: "b1" }, { signal: AbortSignal.abort() }));
  assert.equal(error.code, Code.Canceled);
  assert.equal(peer.sessionCount(), 0);
});

test("a server stream ends at the peer when its reader's signal fires", async (t) => {
  const { orders, calls, pool } = await startWitness(t);
  const reader = new AbortController();
  const stream = orders.watchOrder({ id: "hang" }, { signal: reader.signal })[Symbol.asyncIterator]();
  await stream.next();
  reader.abort();
  assert.equal((await failureOf(stream.next())).code, Code.Canceled);
  await until(() => calls[0]?.context.signal.aborted === true);
  await until(() => pool.states()[0]?.openCalls === 0);
});

test("detached work outlives the caller and its deadline, and keeps its trace", async (t) => {
  const { books, calls } = await startWitness(t);
  const caller = new AbortController();
  const call = incoming({ signal: caller.signal, ...inMs(-1) });
  caller.abort();
  await runInCall(call, () => detached(() => books.getBook({ id: "b1" })));
  assert.equal(calls[0]?.headers.get("x-request-id"), "request-1");
  assert.ok((calls[0]?.timeoutMs ?? 0) > 200);
});

test("the context goes along as headers, and headers that are set by hand stay", async (t) => {
  const { books, orders, calls } = await startWitness(t);
  await runInCall(incoming({ caller: "gateway" }), async () => {
    await books.getBook({ id: "b1" });
    for await (const _ of orders.watchOrder({ id: "o1" }));
    await books.getBook({ id: "b1" }, { headers: { "x-request-id": "mine", "x-tenant": "a" } });
  });
  const [unary, stream, byHand] = calls.map(({ headers }) => headers);
  for (const headers of [unary, stream]) {
    assert.equal(headers?.get("traceparent"), `00-${TRACE.traceId}-${TRACE.spanId}-01`);
    assert.equal(headers?.get("tracestate"), "vendor=1");
    assert.equal(headers?.get("x-request-id"), "request-1");
    assert.equal(headers?.get("x-caller"), "user-service");
  }
  assert.equal(byHand?.get("x-request-id"), "mine");
  assert.equal(byHand?.get("x-tenant"), "a");
});

test("outside of a call each outgoing one begins a trace, and its log line carries it", async (t) => {
  const { books, calls, lines } = await startWitness(t);
  await books.getBook({ id: "b1" });
  await books.getBook({ id: "b1" });
  const traceIds = calls.map(({ headers }) => headers.get("traceparent")?.split("-")[1]);
  assert.equal(new Set(traceIds).size, 2);
  const logged = lines.filter(({ msg }) => msg === "outgoing call");
  assert.deepEqual(
    logged.map(({ trace_id }) => trace_id),
    traceIds,
  );
  assert.equal(logged[0]?.request_id, calls[0]?.headers.get("x-request-id"));
});

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** Node's own note of the signals that AbortSignal.any has made of this one. */
function dependants(signal: AbortSignal): number {
  const symbol = Object.getOwnPropertySymbols(signal).find(({ description }) => description === "kDependantSignals");
  if (symbol === undefined) return 0;
  return (Reflect.get(signal, symbol) as Set<unknown>).size;
}

test("calls leave nothing on signals that outlive them", async (t) => {
  const { books, orders } = await startWitness(t);
  const caller = new AbortController().signal;
  const own = new AbortController().signal;
  await runInCall(incoming({ signal: caller }), async () => {
    for (let i = 0; i < 200; i++) {
      // The pool's own timeout is a short one here.
      await books.getBook({ id: "b1" }, { timeoutMs: 10_000 });
      await books.getBook({ id: "b1" }, { timeoutMs: 10_000, signal: own });
      for await (const _ of orders.watchOrder({ id: "o1" }, { signal: own }));
    }
  });
  for (const signal of [caller, own]) {
    assert.equal(getEventListeners(signal, "abort").length, 0);
    await until(() => {
      collectGarbage();
      return dependants(signal) < 20;
    });
  }
});
