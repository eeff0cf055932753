import assert from "node:assert/strict";
import { test } from "node:test";
import { seededRandom } from "#shared/testing";
import { chooser } from "../policies/test-support.ts";
import { startHttp1Pair, withoutWords } from "./compare.ts";
import { book } from "./messages.ts";
import { close, flush, type Http1Step } from "./scripted-http1-server.ts";

const SEEDS = 6;
const ANSWERS = 60;

type Choose = ReturnType<typeof chooser>;

const type = "content-type: application/proto\r\n";
const [head, tail] = [book.subarray(0, 5), book.subarray(5)];

/** Good ones, of which a little is changed. */
const answers: readonly [Buffer, ...Buffer[]] = [
  bytes(
    `HTTP/1.1 200 OK\r\n${type}x-h: a b\r\nDate: x\r\ncontent-length: ${book.length}\r\n`,
    "Connection: keep-alive\r\n\r\n",
    book,
  ),
  bytes(
    `HTTP/1.1 200 OK\r\n${type}Transfer-Encoding: chunked\r\n\r\n5;x=y\r\n`,
    head,
    `\r\n${tail.length}\r\n`,
    tail,
    "\r\n0\r\nx-t: 1\r\n\r\n",
  ),
  bytes(`HTTP/1.0 200 OK\r\n${type}\r\n`, book),
  bytes(
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\n",
    'content-length: 20\r\n\r\n{"code":"not_found"}',
  ),
];

function bytes(...parts: (string | Uint8Array)[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part)));
}

function mutated(choose: Choose, answer: Buffer): Buffer {
  const at = choose.int(0, answer.length - 1);
  const byte = Buffer.of(choose.of(13, 10, 32, 9, 58, 44, 0, 48, 53, 65, 120, 200, choose.int(0, 255)));
  const [before, after] = [answer.subarray(0, at), answer.subarray(at + 1)];
  switch (choose.int(0, 3)) {
    case 0:
      return Buffer.concat([before, byte, after]);
    case 1:
      return Buffer.concat([before, after]);
    case 2:
      return Buffer.concat([before, byte, answer.subarray(at)]);
    default:
      // Some of it comes twice.
      return Buffer.concat([before, answer.subarray(Math.max(0, at - choose.int(1, 20)))]);
  }
}

/** In one packet or two. It ends with the connection, so that nobody waits for a rest. */
function script(choose: Choose): Http1Step[] {
  let answer = mutated(choose, choose.of(...answers));
  if (choose.chance(0.5)) answer = mutated(choose, answer);
  const cut = choose.int(0, answer.length);
  const packets: Http1Step[] = choose.chance(0.5) ? [answer] : [answer.subarray(0, cut), flush, answer.subarray(cut)];
  return [...packets, flush, close];
}

for (let seed = 1; seed <= SEEDS; seed++) {
  test(`whatever a peer of HTTP/1.1 sends means what it means to stock Connect (seed ${seed})`, async (t) => {
    const choose = chooser(seededRandom(seed));
    const pair = await startHttp1Pair(t);
    for (let round = 0; round < ANSWERS; round++) {
      const steps = script(choose);
      const stock = withoutWords(await pair.stock(steps));
      const told = JSON.stringify(steps.map((step) => (typeof step === "symbol" ? step.description : String(step))));
      assert.deepEqual(withoutWords(await pair.own(steps)), stock, `answer ${round}: ${told}`);
    }
  });
}
