import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { until } from "../test-support.ts";
import { envelope, grpcHeaders, gzip } from "../unary-differential/messages.ts";
import type { Step } from "../unary-differential/scripted-server.ts";
import { type CallOptions, type Pair, startPair } from "./compare.ts";
import { order, orders } from "./orders.ts";

const CANCEL = 8;

const stages: Record<string, readonly Step[]> = {
  "before an answer": [],
  "after the headers": [{ headers: grpcHeaders() }],
  "in a message": [{ headers: grpcHeaders() }, { data: orders(2).subarray(0, -4) }],
  "after messages": [{ headers: grpcHeaders() }, { data: orders(3) }],
  "after a compressed message": [
    { headers: grpcHeaders(["grpc-encoding", "gzip"]) },
    { data: envelope(gzip(order("a")), 1) },
  ],
};

/** How many messages each stage has: where there are some, what ends the stream comes when they have been read. */
const messageCounts: Record<string, number> = { "after messages": 3, "after a compressed message": 1 };

type MakeOptions = (messages: number) => CallOptions;

function cancelledWith(reason: unknown): MakeOptions {
  return (messages) => {
    const controller = new AbortController();
    const act = () => controller.abort(reason);
    if (messages === 0) return { signal: controller.signal, afterMs: { ms: 40, act } };
    // While the reader waits for the next one.
    return { signal: controller.signal, afterMessages: { count: messages, act: () => void setImmediate(act) } };
  };
}

const endings: Record<string, MakeOptions> = {
  // Long enough for a message to be decompressed on a machine that is busy.
  "the deadline": (messages) => ({ timeoutMs: messages === 0 ? 40 : 1_000 }),
  "a cancellation": cancelledWith(undefined),
  "a cancellation with a ConnectError": cancelledWith(new ConnectError("no more", Code.Aborted)),
  "a cancellation with an Error": cancelledWith(new Error("no more")),
  "a cancellation with a text": cancelledWith("no more"),
  "a signal that had fired": () => ({ signal: AbortSignal.abort(new Error("long ago")) }),
  "a deadline that had passed": () => ({ signal: AbortSignal.abort(new ConnectError("late", Code.DeadlineExceeded)) }),
};

async function compare(pair: Pair, script: readonly Step[], options: () => CallOptions): Promise<void> {
  const stock = await pair.stock(script, options);
  const resets = pair.server.resets.splice(0);
  const requests = pair.server.requests();
  assert.deepEqual(await pair.own(script, options), stock);
  if (options().signal?.aborted === true) {
    assert.equal(pair.server.requests(), requests);
    return;
  }
  await until(() => pair.server.resets.length > 0);
  assert.deepEqual(resets, [CANCEL]);
  assert.deepEqual(pair.server.resets, resets);
}

for (const [stage, script] of Object.entries(stages)) {
  for (const [ending, options] of Object.entries(endings)) {
    test(`${ending} ${stage} ends the stream as in stock Connect, and cancels it at the peer`, async (t) => {
      await compare(await startPair(t), script, () => options(messageCounts[stage] ?? 0));
    });
  }
}

test("a cancellation between two messages leaves those unread that have come", async (t) => {
  const script: Step[] = [{ headers: grpcHeaders() }, { data: orders(5) }];
  await compare(await startPair(t), script, () => {
    const controller = new AbortController();
    return { signal: controller.signal, afterMessages: { count: 2, act: () => controller.abort() } };
  });
});

test("an answer to half a request is the answer", async (t) => {
  const pair = await startPair(t);
  const script: Step[] = [
    { headers: grpcHeaders() },
    { data: orders(3) },
    { headers: [["grpc-status", "0"]], isEnd: true },
  ];
  const options = () => ({ answerAt: "headers" as const });
  const stock = await pair.stock(script, options);
  assert.equal(stock.messages.length, 3);
  assert.deepEqual(await pair.own(script, options), stock);
});
