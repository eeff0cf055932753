import assert from "node:assert/strict";
import { maxHeaderSize } from "node:http";
import { test } from "node:test";
import { Http1SyntaxError } from "./http1-head.ts";
import { Http1Reader } from "./http1-reader.ts";

/** What the reader tells of packets, one after the other. */
function startReader() {
  const told: string[] = [];
  const reader = new Http1Reader({
    onHead: ({ headers }) => told.push(`head ${headers[":status"]}`),
    onBody: (bytes) => told.push(`body ${bytes.toString("latin1")}`),
    onComplete: (isLast) => told.push(isLast ? "complete" : "complete, and more"),
  });
  reader.begin(false);
  return { reader, told, read: (text: string) => reader.read(Buffer.from(text, "latin1")) };
}

const ANSWER = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const TOLD = ["head 200", "body ok", "complete"];

for (const packets of [["\r", "\n"], ["\r\n"], ["\r", "\r", "\n\n", "\r\n"], ["\n"], ["\r\n\r"]]) {
  test(`an answer may come after ${JSON.stringify(packets)}, in packets of their own`, () => {
    const { told, read } = startReader();
    for (const packet of packets) read(packet);
    read(ANSWER);
    assert.deepEqual(told, TOLD);
  });
}

test("empty lines in packets of their own may come after an interim answer", () => {
  const { told, read } = startReader();
  for (const packet of ["HTTP/1.1 100 Continue\r\n\r\n", "\r", "\n", ANSWER]) read(packet);
  assert.deepEqual(told, TOLD);
});

const CHUNKED = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const kilobyte = "y".repeat(1_000);
const endless = {
  "interim answers": ["", "HTTP/1.1 100 Continue\r\n\r\n"],
  "extensions of chunks": [CHUNKED, `1;a=${kilobyte}\r\nx\r\n`],
  trailers: [`${CHUNKED}0\r\n`, `x-t: ${kilobyte}\r\n`],
} as const;

for (const [what, [begin, piece]] of Object.entries(endless)) {
  test(`${what} without an end are refused at the bound of headers`, () => {
    const { told, read } = startReader();
    read(begin);
    const pieces = Math.floor((maxHeaderSize - begin.length) / piece.length);
    for (let i = 0; i < pieces; i++) read(piece);
    assert.throws(() => {
      for (let i = 0; i < pieces; i++) read(piece);
    }, Http1SyntaxError);
    assert.ok(!told.includes("complete"));
  });
}

test("what comes before the body, in it and after it is bounded together", () => {
  const { read } = startReader();
  const half = "y".repeat(maxHeaderSize / 2);
  read(`HTTP/1.1 200 OK\r\nx-h: ${half}\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n`);
  assert.throws(() => read(`x-t: ${half}\r\n\r\n`), Http1SyntaxError);
});

test("each answer of a connection has the bound for itself", () => {
  const { reader, told, read } = startReader();
  for (let i = 0; i < 3; i++) {
    reader.begin(false);
    read(`HTTP/1.1 200 OK\r\nx-h: ${"y".repeat(maxHeaderSize / 2)}\r\ncontent-length: 2\r\n\r\nok`);
  }
  assert.deepEqual(told, [...TOLD, ...TOLD, ...TOLD]);
});

test("a body may come in more chunks than headers have bytes", () => {
  const { told, read } = startReader();
  read(CHUNKED);
  for (let i = 0; i < maxHeaderSize + 1; i++) read("1\r\nx\r\n");
  read("0\r\n\r\n");
  assert.equal(told.length, maxHeaderSize + 3);
  assert.equal(told.at(-1), "complete");
});

test("a head that comes byte by byte is neither searched nor copied again with each of them", (t) => {
  const { told, read } = startReader();
  const { indexOf } = Buffer.prototype;
  const { concat } = Buffer;
  let searched = 0;
  let copied = 0;
  t.mock.method(Buffer.prototype, "indexOf", function (this: Buffer, ...args: Parameters<typeof indexOf>) {
    searched += this.length - Number(args[1] ?? 0);
    return indexOf.apply(this, args);
  });
  t.mock.method(Buffer, "concat", (...args: Parameters<typeof concat>) => {
    const all = concat(...args);
    copied += all.length;
    return all;
  });
  const head = `HTTP/1.1 200 OK\r\nx-h: ${"y".repeat(maxHeaderSize / 2)}\r\ncontent-length: 0\r\n\r\n`;
  for (const byte of head) read(byte);
  assert.deepEqual(told, ["head 200", "complete"]);
  assert.ok(searched < 10 * head.length, `${searched} bytes searched`);
  assert.ok(copied < 10 * head.length, `${copied} bytes copied`);
});
