import { randomFillSync } from "node:crypto";

// Drawn 4 KiB at a time: a draw of 8 costs as much as one of 4096.
const pool = Buffer.alloc(4096);
let used = pool.length;

/** Good until the next turn of the event loop: the memory is used again. */
export function randomBytes(length: number): Buffer {
  if (used + length > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += length;
  return pool.subarray(used - length, used);
}
