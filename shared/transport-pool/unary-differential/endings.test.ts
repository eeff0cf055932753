import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../test-support.ts";
import { type CallOptions, type Http2Pair, type Protocol, startPair } from "./compare.ts";
import { book, envelope, grpcHeaders, gzip, headers } from "./messages.ts";
import type { Step } from "./scripted-server.ts";
import { endings } from "./ways-to-end.ts";

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

async function compare(pair: Http2Pair, script: readonly Step[], options: () => CallOptions): Promise<void> {
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
