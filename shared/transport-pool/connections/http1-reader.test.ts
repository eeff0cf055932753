import assert from "node:assert/strict";
import { test } from "node:test";
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
  return { told, read: (text: string) => reader.read(Buffer.from(text, "latin1")) };
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
