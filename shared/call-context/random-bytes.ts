import { randomFillSync } from "node:crypto";

// Drawn 4 KiB at a time: a draw of 8 costs as much as one of 4096.
const pool = Buffer.alloc(4096);
let used = pool.length;

/** Two lower-case digits for each byte. */
export function randomHex(length: number): string {
  const from = draw(length);
  return pool.toString("hex", from, from + length);
}

function draw(length: number): number {
  if (used + length > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += length;
  return used - length;
}
