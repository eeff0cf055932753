import assert from "node:assert/strict";
import { test } from "node:test";
import { createUnframer, frame } from "./framing.ts";

test("messages come out of their frames whole, however the bytes are cut", () => {
  const messages = ["", "a", "hello", "x".repeat(300)];
  const bytes = Buffer.concat(messages.map((message) => frame(Buffer.from(message))));
  for (let size = 1; size <= bytes.length; size++) {
    const found: string[] = [];
    const unframe = createUnframer((message) => found.push(Buffer.from(message).toString()));
    for (let at = 0; at < bytes.length; at += size) unframe(bytes.subarray(at, at + size));
    assert.deepEqual(found, messages, `cut into pieces of ${size}`);
  }
});
