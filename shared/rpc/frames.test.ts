import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameDecoder, frameMessages } from "#shared/rpc";

const MOST = 1_000;

function messagesOf(sizes: readonly number[]): Uint8Array[] {
  return sizes.map((size, index) => new Uint8Array(size).fill(index + 1));
}

test("messages that were framed come out as they were, however the bytes are cut", () => {
  const messages = messagesOf([0, 1, 300, 0, 7, 1_000, 5]);
  const bytes = frameMessages(messages);
  for (const size of [1, 2, 4, 5, 6, 64, 999, bytes.length]) {
    const decoder = new FrameDecoder(MOST);
    const decoded: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += size) {
      decoded.push(...(decoder.decode(bytes.subarray(at, at + size)) ?? []));
    }
    assert.deepEqual(decoded, messages, `in pieces of ${size}`);
    assert.equal(decoder.isBetweenMessages(), true);
  }
});

test("a message has memory of its own", () => {
  const [message] = new FrameDecoder(MOST).decode(frameMessages(messagesOf([3, 100]))) ?? [];
  assert.equal(message?.buffer.byteLength, 3);
});

test("what is cut off is left over", () => {
  const bytes = frameMessages(messagesOf([4, 4]));
  const decoder = new FrameDecoder(MOST);
  assert.equal(decoder.decode(bytes.subarray(0, 11))?.length, 1);
  assert.equal(decoder.isBetweenMessages(), false);
  assert.deepEqual(decoder.rest(), bytes.subarray(9, 11));
});

for (const [name, odd] of [
  ["flags", Buffer.from([1, 0, 0, 0, 1, 7])],
  ["a length beyond the limit", Buffer.from([0, 0, 0, 4, 0])],
] as const) {
  test(`${name}: nothing of the chunk is decoded, and it can be read on from there`, () => {
    const bytes = frameMessages(messagesOf([4, 4]));
    const decoder = new FrameDecoder(MOST);
    assert.equal(decoder.decode(bytes.subarray(0, 11))?.length, 1);
    const second = Buffer.concat([bytes.subarray(11), odd]);
    assert.equal(decoder.decode(second), undefined);
    assert.deepEqual(decoder.rest(), Buffer.concat([bytes.subarray(9, 11), second]));
  });
}
