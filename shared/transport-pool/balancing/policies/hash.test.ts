import assert from "node:assert/strict";
import { test } from "node:test";
import { hashNumber, hashText } from "./hash.ts";

test("texts and numbers hash as MurmurHash3 hashes their bytes", () => {
  const published: [text: string, seed: number, hash: number][] = [
    ["", 0, 0],
    ["", 1, 0x514e28b7],
    ["", 0xffffffff, 0x81f16f39],
    ["\u4321\u8765", 0, 0xf55b516b],
    ["\u4321\u8765", 0x5082edee, 0x2362f9de],
    ["\u4321", 0, 0xa0f7b07a],
    ["\0\0", 0, 0x2362f9de],
    ["\0", 0, 0x30f4c306],
  ];
  for (const [text, seed, hash] of published) assert.equal(hashText(text, seed) >>> 0, hash, JSON.stringify(text));
  assert.equal(hashNumber(0x87654321, 0) >>> 0, 0xf55b516b);
  assert.equal(hashNumber(0x87654321, 0x5082edee) >>> 0, 0x2362f9de);
});

test("texts that differ little spread over all hashes evenly", () => {
  const counts = new Array<number>(64).fill(0);
  for (let index = 0; index < 64_000; index++) counts[hashText(`10.0.0.${index}:9002`, 7) >>> 26]! += 1;
  for (const count of counts) assert.ok(count > 850 && count < 1_150, String(counts));
});
