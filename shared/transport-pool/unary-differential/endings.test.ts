import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { until } from "../test-support.ts";
import { type CallOptions, type Pair, type Protocol, startPair } from "./compare.ts";
import { book, envelope, grpcHeaders, gzip, headers } from "./messages.ts";
import type { Step } from "./scripted-server.ts";

const CANCEL = 8;

const stages: Record<Protocol, Record<string, readonly Step[]>> = {
  grpc: {
    "before an answer": [],
    "after the headers": [{ headers: grpcHeaders() }],
    "in the message": [{ headers: grpcHeaders() }, { data: envelope(book).subarray(0, 7) }],
    "after the message": [{ headers: grpcHeaders() }, { data: envelope(book) }],
    "after a compressed message": [
      { headers: grpcHeaders(["grpc-encoding", "gzip"]) },
      { data: envelope(gzip(book), 1) },
    ],
  },
  connect: {
    "before an answer": [],
    "after the headers": [{ headers: headers(200, "application/proto") }],
    "in the message": [{ headers: headers(200, "application/proto") }, { data: book.subarray(0, 4) }],
    "in an error": [{ headers: headers(404, "application/json") }, { data: Buffer.from('{"code":') }],
  },
};

function cancelledWith(reason: unknown): () => CallOptions {
  return () => {
    const controller = new AbortController();
    return { signal: controller.signal, afterMs: { ms: 40, act: () => controller.abort(reason) } };
  };
}

const endings: Record<string, () => CallOptions> = {
  "the deadline": () => ({ timeoutMs: 40 }),
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
  for (const own of [pair.own, pair.unwatched]) {
    assert.deepEqual(await own(script, options), stock);
    if (options().signal?.aborted === true) {
      assert.equal(pair.server.requests(), requests);
      continue;
    }
    await until(() => pair.server.resets.length > 0);
    assert.deepEqual(resets, [CANCEL]);
    assert.deepEqual(pair.server.resets.splice(0), resets);
  }
}

for (const protocol of ["grpc", "connect"] as const) {
  for (const [stage, script] of Object.entries(stages[protocol])) {
    for (const [ending, options] of Object.entries(endings)) {
      test(`${protocol}: ${ending} ${stage} ends the call as in stock Connect, and cancels it at the peer`, async (t) => {
        await compare(await startPair(t, protocol), script, options);
      });
    }
  }
}

test("an answer to half a request is the answer, and the rest of the request is not sent", async (t) => {
  const pair = await startPair(t, "grpc");
  const script: Step[] = [
    { headers: grpcHeaders() },
    { data: envelope(book) },
    { headers: [["grpc-status", "0"]], isEnd: true },
  ];
  const options = () => ({ answerAt: "headers" as const });
  const stock = await pair.stock(script, options);
  assert.notEqual(stock.message, undefined);
  assert.deepEqual(await pair.own(script, options), stock);
});
