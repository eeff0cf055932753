import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { until } from "../test-support.ts";
import { startHttp1Pair } from "./compare.ts";
import { book } from "./messages.ts";
import { close, flush, type Http1Step } from "./scripted-http1-server.ts";
import { endings } from "./ways-to-end.ts";

const ok = "HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\n";

const stages: Record<string, readonly Http1Step[]> = {
  "before an answer": [],
  "in the headers": [ok],
  "after the headers": [`${ok}content-length: ${book.length}\r\n\r\n`],
  "in the message": [`${ok}content-length: ${book.length}\r\n\r\n`, book.subarray(0, 4)],
  "in a chunk": [`${ok}transfer-encoding: chunked\r\n\r\n${book.length.toString(16)}\r\n`, book.subarray(0, 4)],
  "in an error": ['HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 30\r\n\r\n{"code":'],
};

for (const [stage, script] of Object.entries(stages)) {
  for (const [ending, options] of Object.entries(endings)) {
    test(`Connect over HTTP/1.1: ${ending} ${stage} ends the call as in stock Connect, and its connection`, async (t) => {
      const pair = await startHttp1Pair(t);
      const stock = await pair.stock(script, options);
      for (const own of [pair.own, pair.unwatched]) {
        const before = pair.server.requests.length;
        assert.deepEqual(await own(script, options), stock);
        if (options().signal?.aborted === true) assert.equal(pair.server.requests.length, before);
      }
      await until(() => pair.server.connections().open === 0);
    });
  }
}

test("over HTTP/1.1, an answer to half a request is the answer", async (t) => {
  const pair = await startHttp1Pair(t);
  const script: Http1Step[] = [`${ok}content-length: ${book.length}\r\nconnection: close\r\n\r\n`, book, flush, close];
  const options = () => ({ answerAt: "headers" as const });
  const stock = await pair.stock(script, options);
  assert.notEqual(stock.message, undefined);
  assert.deepEqual(await pair.own(script, options), stock);
});

test("a switch to a protocol that nobody has asked for ends the call, for which stock Connect would wait", async (t) => {
  const pair = await startHttp1Pair(t);
  const { code } = await pair.own(["HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"]);
  assert.equal(code, Code.Unavailable);
});

test("a length that is too large for a number is too large for a message", async (t) => {
  const pair = await startHttp1Pair(t);
  const { code } = await pair.own([`${ok}content-length: 9007199254740993\r\n\r\n`, book]);
  assert.equal(code, Code.ResourceExhausted);
});
